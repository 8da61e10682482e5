package bus

// A Disk tells how many bytes a disk has in all, and how many of them are free. known is false
// where that cannot be learnt.
type Disk func() (total, free int64, known bool)

// SpareRoom returns how much of a disk of total bytes stays reserved for other files and for
// rewriting files.
func SpareRoom(total int64) int64 { return min(max(total/8, 32<<20), 512<<20) }
