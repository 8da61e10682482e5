package bus

// Show is as if a board of this process had everything up to seq.
func (l *Ledger) Show(seq uint64) { raise(&l.shown, seq) }
