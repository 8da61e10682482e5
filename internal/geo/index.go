package geo

import (
	"cmp"
	"container/heap"
	"math"
	"slices"

	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"
	"github.com/tidwall/btree"
)

// An Index finds things by their places. It is a tree of them in the order of their s2 cells.
// Neighbouring places are neighbours in that order, except at some seams, so a circle covers a few
// ranges of it.
//
// The zero Index is empty and ready for use. It is not safe for concurrent use, except that any
// number of goroutines may read it while none changes it.
type Index[T any] struct {
	entries *btree.BTreeG[entry[T]] // nil until there is one
}

type entry[T any] struct {
	key
	point s2.Point
	thing T
}

// A key orders entries: by cell, then by n.
type key struct {
	cell s2.CellID
	n    uint64
}

func (k key) compare(o key) int { return cmp.Or(cmp.Compare(k.cell, o.cell), cmp.Compare(k.n, o.n)) }

func keyOf(p s2.Point, n uint64) key { return key{s2.CellFromPoint(p).ID(), n} }

const (
	// scanLimit is the size up to which a search scans the whole index.
	scanLimit = 256
	// firstRadius is the radius in metres with which a search begins. It doubles the radius until
	// it has found enough.
	firstRadius = 10.0
)

// Len returns the number of things.
func (x *Index[T]) Len() int {
	if x.entries == nil {
		return 0
	}
	return x.entries.Len()
}

// Add adds a thing at p. No two things may have the same p and n. Nearest orders things at the same
// distance by n.
func (x *Index[T]) Add(p s2.Point, n uint64, thing T) {
	if x.entries == nil {
		less := func(a, b entry[T]) bool { return a.compare(b.key) < 0 }
		x.entries = btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
	}
	x.entries.Set(entry[T]{keyOf(p, n), p, thing})
}

// Remove removes the thing that was added with p and n, and reports whether there was one.
func (x *Index[T]) Remove(p s2.Point, n uint64) bool {
	if x.entries == nil {
		return false
	}
	_, found := x.entries.Delete(entry[T]{key: keyOf(p, n)})
	return found
}

// A Found is a thing that a search found, and its distance in metres as the crow flies.
type Found[T any] struct {
	Thing  T
	Metres float64
}

// Nearest returns up to limit things within radius metres of p for which want is true, nearest
// first. It orders things at the same distance by n. A nil want accepts all things. Nearest calls
// want only for things that it would return, perhaps several times; want must not change the index.
// An invalid p or radius finds nothing.
func (x *Index[T]) Nearest(p s2.Point, radius float64, limit int, want func(T) bool) []Found[T] {
	if limit <= 0 || x.Len() == 0 || !(radius > 0) || !p.IsUnit() {
		return nil
	}
	s := finder[T]{from: p, limit: limit, want: want}
	if x.Len() <= scanLimit {
		s.reset(radius)
		x.entries.Scan(s.visit)
		return s.found()
	}
	for r := min(firstRadius, radius); ; r = min(2*r, radius) {
		s.reset(r)
		x.visitCircle(p, r, &s)
		if len(s.best) == limit || r == radius {
			return s.found()
		}
	}
}

// visitCircle visits the entries in the four cells that cover a circle. Eight smaller cells would
// cover it more tightly, but finding them takes longer than visiting the surplus.
func (x *Index[T]) visitCircle(p s2.Point, radius float64, s *finder[T]) {
	const slack = 1e-9 // rounding must not exclude a thing on the edge
	circle := s2.CapFromCenterAngle(p, s1.Angle(angle(radius)*(1+slack)+slack/EarthRadius))
	for _, cell := range circle.CellUnionBound() {
		from, to := entry[T]{key: key{cell.RangeMin(), 0}}, cell.RangeMax()
		x.entries.Ascend(from, func(e entry[T]) bool { return e.cell <= to && s.visit(e) })
	}
}

// A finder is the state of a search.
type finder[T any] struct {
	from  s2.Point
	limit int
	want  func(T) bool
	reach float64  // the square of the longest chord allowed
	best  []hit[T] // the best hits so far: a heap with the worst one on top
}

type hit[T any] struct {
	chord float64 // squared, on the unit sphere
	entry entry[T]
}

func (h hit[T]) compare(o hit[T]) int {
	return cmp.Or(cmp.Compare(h.chord, o.chord), cmp.Compare(h.entry.n, o.entry.n), h.entry.compare(o.entry.key))
}

var _ heap.Interface = (*finder[int])(nil)

func (s *finder[T]) Len() int           { return len(s.best) }
func (s *finder[T]) Less(i, j int) bool { return s.best[i].compare(s.best[j]) > 0 }
func (s *finder[T]) Swap(i, j int)      { s.best[i], s.best[j] = s.best[j], s.best[i] }

// Push is never called.
func (s *finder[T]) Push(any) { panic("unreachable") }

// Pop is never called.
func (s *finder[T]) Pop() any { panic("unreachable") }

// reset starts the search again with another radius.
func (s *finder[T]) reset(radius float64) {
	half := math.Sin(angle(radius) / 2)
	s.reach = 4 * half * half
	s.best = s.best[:0]
}

// visit takes an entry that may be among the best. It returns true, to go on.
func (s *finder[T]) visit(e entry[T]) bool {
	h := hit[T]{e.point.Sub(s.from.Vector).Norm2(), e}
	full := len(s.best) == s.limit
	switch {
	case h.chord > s.reach || full && h.compare(s.best[0]) >= 0 || s.want != nil && !s.want(e.thing):
	case full:
		s.best[0] = h
		heap.Fix(s, 0)
	default:
		if s.best = append(s.best, h); len(s.best) == s.limit {
			heap.Init(s)
		}
	}
	return true
}

// found returns the best hits, nearest first.
func (s *finder[T]) found() []Found[T] {
	slices.SortFunc(s.best, hit[T].compare)
	found := make([]Found[T], len(s.best))
	for i, h := range s.best {
		found[i] = Found[T]{h.entry.thing, 2 * math.Asin(min(math.Sqrt(h.chord)/2, 1)) * EarthRadius}
	}
	return found
}
