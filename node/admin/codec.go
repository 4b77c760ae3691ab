package admin

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// decode reads the one JSON value of a request, strictly: another content type
// (which a form of a web page would have), unknown keys and anything after the
// value are refused.
func decode[T any](req *http.Request) (T, error) {
	var v T
	kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return v, &Error{Code: http.StatusUnsupportedMediaType, What: "the body is not declared as JSON", Hint: "send Content-Type: application/json"}
	}
	d := json.NewDecoder(req.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, badBody(errors.New("there is more than one value"))
	}
	return v, nil
}

func badBody(err error) *Error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &Error{Code: http.StatusRequestEntityTooLarge, What: "the request is too large", Hint: "split it"}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return Invalid("send JSON as the client of this version does; the fields are in docs/api.md", "read request: %v", err)
}

// answer writes v, or the error.
func (s *Server) answer(w http.ResponseWriter, req *http.Request, v any, err error) {
	if err != nil {
		s.fail(w, req, err)
		return
	}
	s.write(w, http.StatusOK, v)
}

// fail writes an error as JSON. What the backend could not help is logged here,
// once; what the client did wrong is the client's to see.
func (s *Server) fail(w http.ResponseWriter, req *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{What: err.Error()}
	}
	code := e.Code
	if code == 0 {
		code = http.StatusInternalServerError
		s.log.Error("API request not answered", "method", req.Method, "path", req.URL.Path, "err", err)
	}
	// The text of err is what it wraps and where; only the hint is e's.
	s.write(w, code, Error{What: err.Error(), Hint: e.Hint})
}

func (s *Server) write(w http.ResponseWriter, code int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.log.Error("API answer not encoded", "err", err)
		code, data = http.StatusInternalServerError, []byte(`{"error": "the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n')) // a client that left needs no answer
}
