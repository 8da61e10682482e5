package authsvc

// Lighten makes p hash at cost c, which may be below the allowed minimum.
func (p *Hasher) Lighten(c HashCost) {
	p.params.Memory, p.params.Iterations, p.params.Parallelism = c.Memory, c.Iterations, c.Parallelism
	p.dummy = dummyHash(c)
}
