package bus

// A Disk tells how many bytes a disk has in all, and how many of them are free. known is false
// where that cannot be learnt.
type Disk func() (total, free int64, known bool)

// spare is what bookings leave free of a disk that has total bytes: for everything else that is
// written there, and for files that are rewritten.
func SpareRoom(total int64) int64 { return min(max(total/8, 32<<20), 512<<20) }
