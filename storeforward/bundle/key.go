package bundle

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Key is what tells a bundle of any implementation from every other (RFC 9171,
// section 4.3.1): source, creation timestamp and, of a fragment, its place. It
// is comparable, and it has to be remembered for as long as the bundle lives,
// not for as long as it is stored.
//
// Bundles of an anonymous source have no identity (section 4.2.3): ok of KeyOf
// is false.
type Key struct {
	Source   addr.EID // canonical, see Canonical
	Created  Timestamp
	Fragment bool
	Offset   uint64 // of a fragment
	Len      uint64 // of the fragment's payload
}

// KeyOf returns the key of a bundle.
func KeyOf(v *View) (k Key, ok bool) {
	k = Key{Source: Canonical(v.Primary.Source), Created: v.Primary.Created}
	if v.Primary.Flags&FlagFragment != 0 {
		k.Fragment, k.Offset, k.Len = true, v.Primary.FragOffset, uint64(len(v.Payload.Data))
	}
	return k, !IsNull(k.Source)
}

// Whole returns the key of the bundle that k is a fragment of, or k.
func (k Key) Whole() Key { return Key{Source: k.Source, Created: k.Created} }

// Append appends the compact form of k, for files and maps: a CBOR
// array, so that no key is the prefix of another.
func (k Key) Append(dst []byte) []byte {
	items := 3
	if k.Fragment {
		items = 5
	}
	dst = AppendEID(cbor.AppendArray(dst, items), k.Source)
	dst = cbor.AppendUint(cbor.AppendUint(dst, k.Created.Time), k.Created.Seq)
	if k.Fragment {
		dst = cbor.AppendUint(cbor.AppendUint(dst, k.Offset), k.Len)
	}
	return dst
}

// ParseKey reads the compact form.
func ParseKey(b []byte) (Key, error) {
	r := cbor.NewReader(b)
	n := r.Array()
	if n != 3 && n != 5 {
		r.Fail(0, "want the 3 or 5 items of a bundle's key")
	}
	k := Key{Source: Canonical(ReadEID(&r)), Created: Timestamp{Time: r.Uint(), Seq: r.Uint()}}
	if n == 5 {
		k.Fragment, k.Offset, k.Len = true, r.Uint(), r.Uint()
	}
	r.End()
	return k, r.Err()
}
