package fec

// The field is GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11d) and the
// generator 2, that of most Reed–Solomon codes.

// inverses[x] is 1/x; inverses[0] is 0 and never used.
var inverses = makeInverses()

func makeInverses() [256]byte {
	var inv [256]byte
	for a := 1; a < 256; a++ {
		for b := a; b < 256; b++ {
			if mul(byte(a), byte(b)) == 1 {
				inv[a], inv[b] = byte(b), byte(a)
				break
			}
		}
	}
	return inv
}

// mul multiplies two elements of the field, bit by bit.
func mul(a, b byte) byte {
	var p byte
	for b > 0 {
		if b&1 != 0 {
			p ^= a
		}
		carry := a & 0x80
		a <<= 1
		if carry != 0 {
			a ^= 0x1d
		}
		b >>= 1
	}
	return p
}

// Coefficient is what data symbol c is multiplied with in parity row r: an
// element of a Cauchy matrix, so that any k symbols of k+m give the rest.
// Rows are 255, 254, ... down to k.
func Coefficient(r, c uint8) byte { return inverses[r^c] }

// invert returns the inverse of the square matrix of the coefficients of rows
// and columns, by elimination. Such a matrix always has one.
func invert(rows, columns []uint8) [][]byte {
	n := len(rows)
	m := make([][]byte, n)
	back := make([]byte, n*2*n)
	for i := range m {
		m[i], back = back[:2*n], back[2*n:]
		for j, c := range columns {
			m[i][j] = Coefficient(rows[i], c)
		}
		m[i][n+i] = 1
	}
	for i := range n {
		for p := i; p < n; p++ { // a pivot
			if m[p][i] != 0 {
				m[i], m[p] = m[p], m[i]
				break
			}
		}
		scale(m[i], inverses[m[i][i]])
		for j := range m {
			if j != i && m[j][i] != 0 {
				addScaled(m[j], m[i], m[j][i])
			}
		}
	}
	for i := range m {
		m[i] = m[i][n:]
	}
	return m
}

func scale(v []byte, f byte) {
	t := table(f)
	for i := range v {
		v[i] = t[v[i]]
	}
}

// addScaled adds f times v to dst.
func addScaled(dst, v []byte, f byte) {
	t := table(f)
	for i := range dst {
		dst[i] ^= t[v[i]]
	}
}

// table is the multiples of f.
func table(f byte) [256]byte {
	var t [256]byte
	for i := 1; i < 256; i++ {
		if i&(i-1) == 0 {
			t[i] = mul(f, byte(i))
		} else {
			t[i] = t[i&(i-1)] ^ t[i&-i]
		}
	}
	return t
}
