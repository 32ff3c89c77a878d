package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Code is the machine's word for an error.
type Code string

// The codes of errors, and with each the HTTP status it travels under.
const (
	CodeBadRequest  Code = "bad_request"  // 400: body, query or path are wrong
	CodeForbidden   Code = "forbidden"    // 403: the caller may not do this
	CodeNotFound    Code = "not_found"    // 404: no such request
	CodeUnknownPeer Code = "unknown_peer" // 404
	CodeMethod      Code = "method"       // 405
	CodeState       Code = "state"        // 409: not possible in the peer's state
	CodeTooLarge    Code = "too_large"    // 413
	CodeFailed      Code = "failed"       // 500
	CodePeer        Code = "peer"         // 502: the other side refused, or went away
	CodeBusy        Code = "busy"         // 503: too many connections
	CodeStopping    Code = "stopping"     // 503: tund is about to end
	CodeTimeout     Code = "timeout"      // 504
)

// statuses maps each code to its HTTP status.
func statuses() map[Code]int {
	return map[Code]int{
		CodeBadRequest:  http.StatusBadRequest,
		CodeForbidden:   http.StatusForbidden,
		CodeNotFound:    http.StatusNotFound,
		CodeUnknownPeer: http.StatusNotFound,
		CodeMethod:      http.StatusMethodNotAllowed,
		CodeState:       http.StatusConflict,
		CodeTooLarge:    http.StatusRequestEntityTooLarge,
		CodeFailed:      http.StatusInternalServerError,
		CodePeer:        http.StatusBadGateway,
		CodeBusy:        http.StatusServiceUnavailable,
		CodeStopping:    http.StatusServiceUnavailable,
		CodeTimeout:     http.StatusGatewayTimeout,
	}
}

// Error is an error that crosses the socket. Its text is the message alone.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// ErrorReply is the envelope of an Error.
type ErrorReply struct {
	Schema int    `json:"schema"`
	Error  *Error `json:"error"`
}

// Errorf returns an Error of a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Status returns the HTTP status of the error's code.
func (e *Error) Status() int {
	if status, ok := statuses()[e.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// UnknownPeer returns the error for a name that is none of the known peers',
// with the nearest of them as a suggestion.
func UnknownPeer(name string, known []string) *Error {
	if near := Nearest(name, known); near != "" {
		return Errorf(CodeUnknownPeer, "no peer named %q (did you mean %q?)", name, near)
	}
	return Errorf(CodeUnknownPeer, "no peer named %q", name)
}

// asError turns whatever a Backend returned into what is sent to the caller.
func asError(err error) *Error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.DeadlineExceeded) && errors.Unwrap(err) == nil:
		return Errorf(CodeTimeout, "not done in time")
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(CodeTimeout, "%v", err)
	default:
		return Errorf(CodeFailed, "%v", err)
	}
}
