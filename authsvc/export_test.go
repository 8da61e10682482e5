package authsvc

// Lighten makes p hash at c, which may be less than anybody may be offered.
func (p *Passwords) Lighten(c HashCost) {
	p.params.Memory, p.params.Iterations, p.params.Parallelism = c.Memory, c.Iterations, c.Parallelism
	p.dummy = dummyHash(c)
}

// Lanes is how many locks a Guard has for its counters.
const Lanes = lanes

// LaneOf returns which of them is that of a counter.
func LaneOf(parts ...string) int { return laneOf(limitKey(parts...)) }
