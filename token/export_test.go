package token

// CacheLen returns how many verified tokens v remembers.
func (v *Verifier) CacheLen() int { return v.cache.Len() }

// VerifySignature is the signature layer alone, for vectors whose header and payload are not ours.
func VerifySignature(signed string, signature []byte, key Key) error {
	return signedText{signed, signature}.verify(key)
}

// VerifyCompact is the compact form and the signature layer. It returns the decoded header
// unchecked.
func VerifyCompact(raw string, key Key) (header []byte, err error) {
	c, err := split(raw)
	if err != nil {
		return nil, err
	}
	return c.header, c.signed.verify(key)
}

// Parse is the grammar alone, for fuzzers, to save the time for signatures.
func Parse(raw string) (Claims, error) {
	s, _, err := expectedOf("", "", "").parse(raw)
	if err != nil {
		return Claims{}, err
	}
	return s.claims, nil
}
