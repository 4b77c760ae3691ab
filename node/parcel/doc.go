// Package parcel is the file in which bundles travel without a link: on a USB
// stick aboard a ship, or on a disk in a truck. A parcel holds bundles as they
// would go over a link, a receipt says which of them were taken into custody.
// Both are signed by the node that made them. docs/wire.md describes the bytes.
//
// A file is read whole before anything of it is believed: whatever is forged,
// cut off or damaged is an Error that tells at which byte.
package parcel
