package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFile is the largest file that is read, in bytes.
const MaxFile = 1 << 20

// maxList is the longest list in a file.
const maxList = 1024

// decoder fills a struct from a YAML tree. It takes the place of the library's
// own decoder, whose strictness has gaps (it guesses numbers, stops at the
// first kind of fault and knows no near misses).
type decoder struct {
	*faults
	start string // how to come by content, for empty files
}

// decode reads exactly one document into dst, a pointer to a struct. What it
// cannot read keeps its value; the faults tell. start says what to do about an
// empty file.
func decode(name string, data []byte, dst any, start string) *faults {
	d := decoder{&faults{file: name, lines: make(map[string]int)}, start}
	root := d.tree(data)
	if root == nil {
		return d.faults
	}
	if isNull(root) {
		d.at(0, "", "is empty; %s", d.start)
		return d.faults
	}
	d.value(root, reflect.ValueOf(dst).Elem(), "")
	return d.faults
}

// tree parses the document, or returns nil and notes why there is none.
func (d decoder) tree(data []byte) *yaml.Node {
	if len(data) > MaxFile {
		d.at(0, "", "has %d bytes, more than %d; is it the right file?", len(data), MaxFile)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.at(0, "", "is empty; %s", d.start)
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err)
	default:
		d.at(second.Line, "", "a second document starts here; remove the line with --- and keep one document")
	}
	if len(doc.Content) != 1 {
		d.at(0, "", "is empty; %s", d.start)
		return nil
	}
	return doc.Content[0]
}

// yamlLine takes the line out of an error of the library.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (d decoder) syntax(err error) {
	line, text := 0, err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	d.at(line, "", "not YAML: %s; check indentation (spaces, no tabs) and quotes on and above this line", text)
}

// value decodes one node into v. path is the name of the field, "" for the
// root.
func (d decoder) value(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.misread(n.Line, path, "anchors and aliases (& and *) are not read; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		d.misread(n.Line, path, "the tag %s is not read; remove it", quote(n.Tag))
	case implementsText(v):
		d.scalar(n, path, v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText)
	case v.Kind() == reflect.Pointer:
		if isNull(n) {
			d.misread(n.Line, path, "is empty; give it a value or remove the line")
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	case v.Kind() == reflect.Bool:
		d.scalar(n, path, func(b []byte) error { return parseBool(v, string(b)) })
	case v.Kind() == reflect.Int:
		d.scalar(n, path, func(b []byte) error { return parseInt(v, string(b)) })
	default:
		d.scalar(n, path, func(b []byte) error { v.SetString(string(b)); return nil })
	}
}

func implementsText(v reflect.Value) bool {
	_, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
	return ok
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (d decoder) scalar(n *yaml.Node, path string, set func([]byte) error) {
	d.lines[path] = n.Line
	switch {
	case n.Kind != yaml.ScalarNode:
		d.misread(n.Line, path, "is a %s; write one value", kindName(n))
	case isNull(n):
		d.misread(n.Line, path, "is empty; give it a value or remove the line")
	default:
		// The text as written: no guess about 010, on or 1:30 comes between.
		if err := set([]byte(n.Value)); err != nil {
			d.misread(n.Line, path, "%v", err)
		}
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "group of keys"
	case yaml.SequenceNode:
		return "list"
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
	}
	return "single value"
}

func parseBool(v reflect.Value, s string) error {
	if s != "true" && s != "false" {
		return fmt.Errorf("%s is not true or false; write one of them", quote(s))
	}
	v.SetBool(s == "true")
	return nil
}

func parseInt(v reflect.Value, s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	switch text := strconv.FormatInt(n, 10); {
	case err == nil && text == s:
		v.SetInt(n)
		return nil
	case err == nil && s[0] == '0':
		return fmt.Errorf("%s starts with a zero, which some read as octal; write %s", s, text)
	}
	return fmt.Errorf("%s is not a whole number; write digits only, such as 10000", quote(s))
}

// sequence decodes a list. "peers:" with nothing below it, as it stays when
// the entries are commented out, is an empty one.
func (d decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.misread(n.Line, path, "is a %s; write a list, each entry starting with \"- \"", kindName(n))
		return
	}
	if len(n.Content) > maxList {
		d.misread(n.Line, path, "has %d entries, more than %d", len(n.Content), maxList)
		return
	}
	if len(n.Content) == 0 {
		v.SetZero()
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.lines[p] = item.Line
		d.value(item, list.Index(i), p)
	}
	v.Set(list)
}

// mapping decodes a group of keys. Like an empty list, an empty group is one
// with everything commented out: it keeps the defaults.
func (d decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.misread(n.Line, path, "is a %s; write a group of \"key: value\" lines", kindName(n))
		return
	}
	keys, fields := fieldsOf(v)
	first := make(map[string]int, len(keys))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.misread(key.Line, path, "a key is a %s; write one word before the colon", kindName(key))
			continue
		}
		at := join(path, key.Value)
		if line, dup := first[key.Value]; dup {
			d.misread(key.Line, join(path, clipKey(key.Value)), "is set twice, first on line %d; keep one", line)
			continue
		}
		first[key.Value] = key.Line
		field, ok := fields[key.Value]
		if !ok {
			d.unknown(key, path, keys)
			continue
		}
		d.lines[at] = key.Line
		d.value(value, field, at)
	}
}

// unknown notes an unknown key. What it was probably meant to be is then not
// missing but misspelt.
func (d decoder) unknown(key *yaml.Node, path string, keys []string) {
	near := closest(key.Value, keys)
	if near == "" {
		d.at(key.Line, path, "unknown key %s; the keys here are %s", quote(key.Value), strings.Join(keys, ", "))
		return
	}
	d.at(key.Line, path, "unknown key %s; did you mean %s?", quote(key.Value), near)
	d.broken = append(d.broken, join(path, near))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// clipKey keeps a hostile key out of messages at full length.
func clipKey(key string) string { return key[:min(len(key), 40)] }

// fieldsOf lists the fields of a struct by their names in the file, those of
// embedded structs among them.
func fieldsOf(v reflect.Value) (keys []string, fields map[string]reflect.Value) {
	fields = make(map[string]reflect.Value)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			sub, values := fieldsOf(v.Field(i))
			keys = slices.Concat(keys, sub)
			for _, k := range sub {
				fields[k] = values[k]
			}
			continue
		}
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "-" {
			keys = append(keys, key)
			fields[key] = v.Field(i)
		}
	}
	return keys, fields
}
