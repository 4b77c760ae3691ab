// Package migrate moves the buffer of a node from one engine to the other:
// everything that a store.Store gives back, under the same numbers, in the
// same states, of the same incarnation. It owns the names in the folder of the
// stores (which of two stores is the one in use, what is being made, what was
// kept) and the moment at which one takes the place of the other. It reads no
// configuration and decides nothing about a message. Package node asks it
// which engine to open; the command runs it while no daemon does.
//
//	r, err := migrate.Run(ctx, migrate.Config{Dir: dir, To: migrate.Bolt})
//
// # Names
//
//	journal, buffer.db       the stores, of the engines journal and bbolt
//	migrating-to-ENGINE      a folder; there while a store of ENGINE is made
//	NAME.migrated-to-ENGINE  what NAME was; nothing reads it any more
//
// # The switch
//
// The new store is made and compared within migrating-to-ENGINE, moved beside
// the old one, and made durable under that name. As long as the folder is
// there and the old store has its name, the old store is the one in use,
// whatever else there is. So one rename switches: that of the old store. There
// is no moment at which neither or both are in use, nothing that a start
// would have to refuse, and nothing to be repaired: what a crash left before
// that rename is ignored by everyone and removed by the next migration, and
// after it only an empty folder is left over.
//
// While that goes on the folder of the stores is locked, which every start
// asks for as well, and the old store has its own lock until it is closed.
package migrate
