package token

// CacheLen returns how many verified tokens v remembers: that a cache is bounded, and holds only good signatures, shows nowhere else.
func (v *Verifier) CacheLen() int { return v.cache.len() }

// VerifySignature is the signature layer alone, for vectors whose payload is no JSON and whose header is not ours.
func VerifySignature(signed string, signature []byte, key Key) error {
	return proof{signed, signature}.verify(key)
}

// VerifyCompact is the signature layer with the form of a token before it. It returns the decoded header, which it does not judge.
func VerifyCompact(raw string, key Key) (header []byte, err error) {
	c, err := split(raw)
	if err != nil {
		return nil, err
	}
	return c.header, c.proof.verify(key)
}

// Parse is the grammar alone, for a fuzzer that would spend its time on signatures otherwise.
func Parse(raw string) (Claims, error) {
	s, _, err := dialectOf("", "", "").parse(raw)
	if err != nil {
		return Claims{}, err
	}
	return s.claims, nil
}
