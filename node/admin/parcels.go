package admin

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// ExportRequest asks for the bundles that wait for other nodes, as a file. What
// is left out matches anything.
type ExportRequest struct {
	To       string `json:"to,omitempty"` // a node or a region
	Class    string `json:"class,omitempty"`
	MaxBytes int64  `json:"max_bytes,omitempty"` // of the file, about; 0: as much as one may hold
}

// ParcelHeader is how such a file begins, after 8 bytes and those of a record.
type ParcelHeader struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Node    addr.Node `json:"node"`
	Store   uint32    `json:"store"`
	From    addr.Node `json:"from,omitzero"` // of a receipt
	Created time.Time `json:"created"`
	Dated   bool      `json:"dated"`
}

// Imported is what became of the bundles of a file.
type Imported struct {
	ID       string         `json:"id"`       // of the file
	Node     addr.Node      `json:"node"`     // that made it
	Created  time.Time      `json:"created"`  // by its clock
	Bundles  int            `json:"bundles"`  // in it
	Taken    int            `json:"taken"`    // into custody here
	Known    int            `json:"known"`    // were here before
	Refused  map[string]int `json:"refused"`  // were not taken, by reason
	Unclear  bool           `json:"unclear"`  // how long they were under way: one of the clocks is not trusted
	Receipt  []byte         `json:"receipt"`  // of those taken and known, signed; base64 in JSON
	Returned bool           `json:"returned"` // it is of this node itself, and came back
}

// HandedOver is what a receipt ended.
type HandedOver struct {
	ID       string    `json:"id"`       // of the file of bundles
	Node     addr.Node `json:"node"`     // that has custody now; of a file of bundles: whoever has the file
	Named    int       `json:"named"`    // bundles in it
	Released int       `json:"released"` // ended here now
	Left     int       `json:"left"`     // messages far back in long queues: those that are named end as their turn comes
}

// parcelBody bounds a file, in bytes: parcel.MaxFile, and no more.
const parcelBody = 4 << 30

// stalled is how long one part of a file may take.
const stalled = writeTimeout

// exportBundles answers with a file.
func (s *Server) exportBundles(w http.ResponseWriter, req *http.Request) {
	in, err := decode[ExportRequest](req)
	if err != nil {
		s.fail(w, req, err)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // that of the request; nothing more is read
	out := &slowWriter{w: w, rc: rc}
	err = s.cfg.Backend.ExportBundles(req.Context(), in, out)
	switch {
	case err == nil:
	case !out.began:
		s.fail(w, req, err)
	default:
		s.log.Warn("a file of bundles was not written to its end", "err", err) // its reader misses that end
	}
}

// slowWriter gives each part its time.
type slowWriter struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	began bool
}

// Write implements io.Writer.
func (s *slowWriter) Write(p []byte) (int, error) {
	if !s.began {
		s.began = true
		s.w.Header().Set("Content-Type", "application/octet-stream")
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(stalled))
	return s.w.Write(p)
}

// slowReader gives each part its time.
type slowReader struct {
	r  io.Reader
	rc *http.ResponseController
}

// Read implements io.Reader.
func (s slowReader) Read(p []byte) (int, error) {
	_ = s.rc.SetReadDeadline(time.Now().Add(stalled))
	_ = s.rc.SetWriteDeadline(time.Now().Add(2 * stalled)) // the answer comes after the last part
	return s.r.Read(p)
}

// takeFile answers what is asked with a file as its body.
func takeFile[Out any](ask func(Backend, context.Context, io.Reader) (Out, error)) func(*Server, http.ResponseWriter, *http.Request) {
	return func(s *Server, w http.ResponseWriter, req *http.Request) {
		if kind := req.Header.Get("Content-Type"); kind != "application/octet-stream" {
			s.fail(w, req, &Error{Code: http.StatusUnsupportedMediaType, What: "the body is not declared as bytes", Hint: "send Content-Type: application/octet-stream"})
			return
		}
		rc := http.NewResponseController(w)
		out, err := ask(s.cfg.Backend, req.Context(), slowReader{req.Body, rc})
		s.answer(w, req, out, err)
	}
}

// ExportBundles writes a file to w. What came before an error is no file.
func (c *Client) ExportBundles(ctx context.Context, r ExportRequest, w io.Writer) error {
	resp, err := c.ask(ctx, "POST", "/api/v1/bundles/export", r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.read(resp, nil)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

// ImportBundles takes a file of bundles in.
func (c *Client) ImportBundles(ctx context.Context, file io.Reader) (out Imported, err error) {
	err = c.sendFile(ctx, "/api/v1/bundles/import", file, &out)
	return out, err
}

// ReleaseBundles ends custody of what a receipt names, or a file of bundles
// that this node made.
func (c *Client) ReleaseBundles(ctx context.Context, file io.Reader) (out HandedOver, err error) {
	err = c.sendFile(ctx, "/api/v1/bundles/release", file, &out)
	return out, err
}

func (c *Client) sendFile(ctx context.Context, path string, file io.Reader, out any) error {
	resp, err := c.send(ctx, "POST", path, "application/octet-stream", file)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.read(resp, out)
}
