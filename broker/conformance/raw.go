package conformance

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rawBytes builds bytes from the words of a raw step:
//
//	30 0a1b     bytes in hex
//	70*500      a byte, so many times
//	'text'      a string with its length of two bytes before it
//	t'text'     the text alone
//	[ ... ]     the bytes between, with their length as a variable byte integer
//	( ... )     the bytes between, with their length in two bytes
//
// Brackets stand alone, between spaces.
func rawBytes(words []string) ([]byte, error) {
	stack := [][]byte{nil}
	var open []string
	for _, w := range words {
		top := len(stack) - 1
		switch w {
		case "[", "(":
			stack, open = append(stack, nil), append(open, w)
			continue
		case "]", ")":
			if len(open) == 0 || open[len(open)-1]+w != "[]" && open[len(open)-1]+w != "()" {
				return nil, fmt.Errorf("a %q that closes nothing", w)
			}
			inner := stack[top]
			stack, open = stack[:top], open[:len(open)-1]
			if w == "]" {
				stack[top-1] = slices.Concat(stack[top-1], appendVar(nil, len(inner)), inner)
			} else {
				stack[top-1] = slices.Concat(stack[top-1], appendText(nil, string(inner)))
			}
			continue
		}
		b, err := rawWord(w)
		if err != nil {
			return nil, err
		}
		stack[top] = append(stack[top], b...)
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("a %q that is never closed", open[len(open)-1])
	}
	return stack[0], nil
}

func rawWord(w string) ([]byte, error) {
	if s, ok := strings.CutPrefix(w, "t'"); ok && strings.HasSuffix(s, "'") {
		return []byte(strings.TrimSuffix(s, "'")), nil
	}
	if s, ok := strings.CutPrefix(w, "'"); ok && len(s) > 0 && strings.HasSuffix(s, "'") {
		return appendText(nil, strings.TrimSuffix(s, "'")), nil
	}
	one, times, repeated := strings.Cut(w, "*")
	b, err := hex.DecodeString(one)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", w, err)
	}
	if repeated {
		n, err := strconv.ParseUint(times, 10, 24)
		if err != nil || len(b) != 1 {
			return nil, fmt.Errorf("%q is no byte times a number", w)
		}
		b = slices.Repeat(b, int(n))
	}
	return b, nil
}
