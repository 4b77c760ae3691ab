package main

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the driver

	"github.com/farhop/farhop/sim/bench/durable"
)

// base is SQLite in WAL mode with synchronous=FULL: a commit is an fsync of
// the WAL. Rows are in the order of arrival, which costs it least.
type base struct {
	db          *sql.DB
	insert, del *sql.Stmt

	mu     sync.Mutex // guards joined
	joined []byte
}

func newBase(dir string) (*base, error) {
	v := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(10000)", "busy_timeout(10000)"}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "queue.db")+"?"+v.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // it has one writer at a time anyway
	s := &base{db: db}
	if _, err = db.Exec("CREATE TABLE queue (id INTEGER PRIMARY KEY, dest INTEGER NOT NULL, body BLOB NOT NULL)"); err == nil {
		s.insert, err = db.Prepare("INSERT INTO queue (dest, body) VALUES (?, ?)")
	}
	if err == nil {
		s.del, err = db.Prepare("DELETE FROM queue WHERE id = ?")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *base) close() error {
	return errors.Join(s.insert.Close(), s.del.Close(), s.db.Close())
}

// commit is one transaction.
func (s *base) commit(jobs []*job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	insert, del := tx.Stmt(s.insert), tx.Stmt(s.del)
	for _, j := range jobs {
		s.joined = append(append(s.joined[:0], j.b.Frozen...), j.b.Payload...)
		r, err := insert.Exec(j.b.Queue, s.joined)
		var id int64
		if err == nil {
			id, err = r.LastInsertId()
		}
		if err == nil && j.gone.Seq != 0 {
			_, err = del.Exec(int64(j.gone.Seq))
		}
		if err != nil {
			return errors.Join(fmt.Errorf("sqlite: %w", err), tx.Rollback())
		}
		j.item = durable.Item{Queue: j.b.Queue, Seq: uint64(id)}
	}
	return tx.Commit()
}

func openSQLiteGroup(dir string, producers int) (durable.Sink, error) {
	s, err := newBase(dir)
	if err != nil {
		return nil, err
	}
	return newGroup(producers, s.commit, s.close), nil
}

// sqliteSink has a transaction for every put, as users write it.
type sqliteSink struct{ *base }

func openSQLite(dir string) (durable.Sink, error) {
	s, err := newBase(dir)
	if err != nil {
		return nil, err
	}
	return sqliteSink{s}, nil
}

// Put implements durable.Sink.
func (s sqliteSink) Put(producer int, b durable.Bundle, gone durable.Item) (durable.Item, error) {
	j := &job{producer: producer, b: b, gone: gone}
	err := s.commit([]*job{j})
	return j.item, err
}

// Close implements durable.Sink.
func (s sqliteSink) Close() error { return s.close() }
