//go:build linux || darwin

package embedded

import "syscall"

func volume(dir string) (total, free int64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, false
	}
	block := int64(s.Bsize) //nolint:unconvert // it is narrower on darwin
	return int64(s.Blocks) * block, int64(s.Bavail) * block, true
}
