package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// maxBody is far above the names of as many peers as a node can have.
const maxBody = 256 << 10

// inTime gives the caller so long to send the body, whatever becomes of the request:
// net/http reads it to its end before it sends even a refusal, and would wait
// for ever. The deadline stands until [readBody] has all of it.
func inTime(timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		next.ServeHTTP(w, r)
	})
}

// readBody returns the whole body of a request, within its limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, Errorf(CodeTooLarge, "body: more than %d bytes", maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, Errorf(CodeBadRequest, "body: did not come in time")
	case err != nil:
		return nil, Errorf(CodeBadRequest, "body: %v", err)
	}
	// Without a deadline again: net/http watches by a read whether the caller is
	// still there, and takes the end of that for its end.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// decodeBody fills v, a pointer to a struct, from the JSON object in body. An empty
// body leaves it as it is. Names must be those of v's fields to the letter, none
// twice, no value null, and nothing may follow the object: encoding/json by itself
// would take all of that.
func decodeBody(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	known, err := fieldsOf(v)
	if err != nil {
		return err
	}
	fields, err := splitObject(body)
	if err != nil {
		return err
	}
	for name, value := range fields {
		if _, ok := known[name]; !ok {
			return Errorf(CodeBadRequest, "body: unknown field %q", name)
		}
		if string(value) == "null" {
			return Errorf(CodeBadRequest, "body: %s: null is not a value", name)
		}
	}
	if err := json.Unmarshal(body, v); err != nil {
		return Errorf(CodeBadRequest, "body: %v", err)
	}
	return nil
}

// fieldsOf returns the JSON names of a struct's fields.
func fieldsOf(v any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	return fields, json.Unmarshal(text, &fields)
}

// splitObject cuts a JSON object into its fields.
func splitObject(body []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, Errorf(CodeBadRequest, "body: not a JSON object")
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, Errorf(CodeBadRequest, "body: %v", err)
		}
		name, _ := t.(string) // a name in an object is nothing else
		if _, ok := fields[name]; ok {
			return nil, Errorf(CodeBadRequest, "body: field %q comes twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, Errorf(CodeBadRequest, "body: %v", err)
		}
		fields[name] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, Errorf(CodeBadRequest, "body: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, Errorf(CodeBadRequest, "body: something follows the object")
	}
	return fields, nil
}

// parseQuery returns the time-out that a query asks for, 0 for none. It knows
// nothing else.
func parseQuery(raw string, timed bool) (time.Duration, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return 0, Errorf(CodeBadRequest, "query: %v", err)
	}
	for name, values := range query {
		if name != "timeout" || !timed {
			return 0, Errorf(CodeBadRequest, "query: unknown parameter %q", name)
		}
		if len(values) > 1 {
			return 0, Errorf(CodeBadRequest, "query: timeout comes twice")
		}
	}
	if !query.Has("timeout") {
		return 0, nil
	}
	timeout, err := time.ParseDuration(query.Get("timeout"))
	if err != nil || timeout <= 0 {
		return 0, Errorf(CodeBadRequest, "query: timeout %q: not a duration above 0, such as 30s", query.Get("timeout"))
	}
	return timeout, nil
}
