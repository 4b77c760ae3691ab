// Package routing decides next hops. It keeps the newest Advert of every node
// (links, region, interest, services), computes the cheapest path over links
// that are up (and, dearer, over links that were) with a loop-free alternate for
// each, and answers which nodes want a topic. It is pure: no I/O, no clock, no goroutine.
package routing
