package authsvc

// Lighten makes p hash at c, which may be less than anybody may be offered.
func (p *Hasher) Lighten(c HashCost) {
	p.params.Memory, p.params.Iterations, p.params.Parallelism = c.Memory, c.Iterations, c.Parallelism
	p.dummy = dummyHash(c)
}
