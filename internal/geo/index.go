package geo

import (
	"cmp"
	"container/heap"
	"math"
	"slices"

	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"
)

// An Index holds things by where they are. It is a list of small chunks, in the order of the cells that s2 divides the earth into: places
// that are near to each other stand near to each other in it, but for some seams, so that a circle is a few stretches of the list.
//
// The zero Index is empty and ready. It is for one goroutine, or any number that only ask.
type Index[T any] struct {
	chunks [][]entry[T]
	size   int
}

type entry[T any] struct {
	key
	point s2.Point
	thing T
}

// A key is where an entry belongs: its cell, and among those of the same cell a number that is its own.
type key struct {
	cell s2.CellID
	n    uint64
}

func (k key) compare(o key) int { return cmp.Or(cmp.Compare(k.cell, o.cell), cmp.Compare(k.n, o.n)) }

func keyOf(p s2.Point, n uint64) key { return key{s2.CellFromPoint(p).ID(), n} }

const (
	chunkSize = 128 // entries
	// An index of so few things is looked through as a whole.
	few = 256
	// The search begins with a circle of that radius, in metres, and doubles it until enough is found.
	firstRadius = 10.0
)

// Len returns how many things there are.
func (x *Index[T]) Len() int { return x.size }

// Add puts in a thing that is at p. n tells it from others at the same place, and orders it among those that are equally far: no two things
// may have the same place and n.
func (x *Index[T]) Add(p s2.Point, n uint64, thing T) {
	e := entry[T]{keyOf(p, n), p, thing}
	x.size++
	if len(x.chunks) == 0 {
		x.chunks = append(x.chunks, []entry[T]{e})
		return
	}
	i := min(x.find(e.key), len(x.chunks)-1)
	if len(x.chunks[i]) >= chunkSize {
		x.split(i)
		if e.compare(last(x.chunks[i])) > 0 {
			i++
		}
	}
	at, _ := within(x.chunks[i], e.key)
	x.chunks[i] = slices.Insert(x.chunks[i], at, e)
}

// Remove takes out what was added with p and n, and reports whether it was there.
func (x *Index[T]) Remove(p s2.Point, n uint64) bool {
	k := keyOf(p, n)
	i := x.find(k)
	if i == len(x.chunks) {
		return false
	}
	at, found := within(x.chunks[i], k)
	if !found {
		return false
	}
	x.chunks[i] = slices.Delete(x.chunks[i], at, at+1)
	x.size--
	switch left := len(x.chunks[i]); {
	case left == 0:
		x.chunks = slices.Delete(x.chunks, i, i+1)
	case i+1 < len(x.chunks) && left+len(x.chunks[i+1]) <= chunkSize/2:
		x.merge(i)
	case i > 0 && left+len(x.chunks[i-1]) <= chunkSize/2:
		x.merge(i - 1)
	}
	return true
}

// find returns the first chunk that reaches as far as k.
func (x *Index[T]) find(k key) int {
	i, _ := slices.BinarySearchFunc(x.chunks, k, func(c []entry[T], k key) int { return last(c).compare(k) })
	return i
}

func last[T any](c []entry[T]) key { return c[len(c)-1].key }

func within[T any](c []entry[T], k key) (int, bool) {
	return slices.BinarySearchFunc(c, k, func(e entry[T], k key) int { return e.compare(k) })
}

// split makes two chunks of chunk i.
func (x *Index[T]) split(i int) {
	c := x.chunks[i]
	half := len(c) / 2
	second := append(make([]entry[T], 0, chunkSize), c[half:]...)
	clear(c[half:])
	x.chunks[i] = c[:half]
	x.chunks = slices.Insert(x.chunks, i+1, second)
}

// merge makes one chunk of chunk i and the next: both have become small.
func (x *Index[T]) merge(i int) {
	x.chunks[i] = append(x.chunks[i], x.chunks[i+1]...)
	x.chunks = slices.Delete(x.chunks, i+1, i+2)
}

// A Found is a thing and how far it is, in metres, as the crow flies.
type Found[T any] struct {
	Thing  T
	Metres float64
}

// Nearest returns up to limit of the things within radius metres of p that want wants, nearest first; of those that are equally far, the one
// with the lesser n. want nil wants all. It is asked about those only that would be returned otherwise, several times perhaps, and
// must not change the index. A p that is no point on the sphere (NaN) or a radius of nothing finds nothing.
func (x *Index[T]) Nearest(p s2.Point, radius float64, limit int, want func(T) bool) []Found[T] {
	if limit <= 0 || x.size == 0 || !(radius > 0) || !p.IsUnit() {
		return nil
	}
	n := nearest[T]{from: p, limit: limit, want: want}
	if x.size <= few {
		n.within(radius)
		for _, c := range x.chunks {
			n.look(c)
		}
		return n.found()
	}
	for r := min(firstRadius, radius); ; r = min(2*r, radius) {
		n.within(r)
		x.cover(p, r, &n)
		if len(n.best) == limit || r == radius {
			return n.found()
		}
	}
}

// cover shows n everything in a circle, and more: what is in the four cells around it. Eight smaller ones would fit better, and finding them takes
// longer than looking at what is too much.
func (x *Index[T]) cover(p s2.Point, radius float64, n *nearest[T]) {
	const slack = 1e-9 // a thing on the very edge must not be missed for a rounding
	circle := s2.CapFromCenterAngle(p, s1.Angle(angle(radius)*(1+slack)+slack/EarthRadius))
	for _, cell := range circle.CellUnionBound() {
		from, to := key{cell.RangeMin(), 0}, cell.RangeMax()
		for i := x.find(from); i < len(x.chunks); i++ {
			c := x.chunks[i]
			begin, end := 0, len(c)
			if c[0].cell < from.cell {
				begin, _ = within(c, from)
			}
			beyond := last(c).cell > to
			if beyond {
				end, _ = within(c, key{to + 1, 0})
			}
			if n.look(c[begin:end]); beyond {
				break
			}
		}
	}
}

// nearest is a search: the best entries so far, as a heap with the worst of them on top.
type nearest[T any] struct {
	from  s2.Point
	limit int
	want  func(T) bool
	reach float64 // the square of the longest chord allowed
	best  []hit[T]
}

type hit[T any] struct {
	chord float64 // squared, on the unit sphere
	entry *entry[T]
}

func (h hit[T]) compare(o hit[T]) int {
	return cmp.Or(cmp.Compare(h.chord, o.chord), cmp.Compare(h.entry.n, o.entry.n), h.entry.compare(o.entry.key))
}

var _ heap.Interface = (*nearest[int])(nil)

func (n *nearest[T]) Len() int           { return len(n.best) }
func (n *nearest[T]) Less(i, j int) bool { return n.best[i].compare(n.best[j]) > 0 }
func (n *nearest[T]) Swap(i, j int)      { n.best[i], n.best[j] = n.best[j], n.best[i] }

// Push is never called.
func (n *nearest[T]) Push(any) { panic("unreachable") }

// Pop is never called.
func (n *nearest[T]) Pop() any { panic("unreachable") }

// within begins anew, with another radius.
func (n *nearest[T]) within(radius float64) {
	half := math.Sin(angle(radius) / 2)
	n.reach = 4 * half * half
	n.best = n.best[:0]
}

func (n *nearest[T]) look(entries []entry[T]) {
	for i := range entries {
		e := &entries[i]
		h := hit[T]{e.point.Sub(n.from.Vector).Norm2(), e}
		full := len(n.best) == n.limit
		if h.chord > n.reach || full && h.compare(n.best[0]) >= 0 || n.want != nil && !n.want(e.thing) {
			continue
		}
		if full {
			n.best[0] = h
			heap.Fix(n, 0)
		} else if n.best = append(n.best, h); len(n.best) == n.limit {
			heap.Init(n)
		}
	}
}

// found returns the best in their order.
func (n *nearest[T]) found() []Found[T] {
	slices.SortFunc(n.best, hit[T].compare)
	found := make([]Found[T], len(n.best))
	for i, h := range n.best {
		found[i] = Found[T]{h.entry.thing, 2 * math.Asin(min(math.Sqrt(h.chord)/2, 1)) * EarthRadius}
	}
	return found
}
