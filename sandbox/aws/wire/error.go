package wire

import (
	"fmt"
	"net/http"
)

// Error is an error as AWS answers it.
type Error struct {
	// Code is the code on the wire, such as PriorityInUse.
	Code string
	// Message is for people; its exact words are the emulator's own, AWS's are not known.
	Message string
	// Status is the HTTP status; 0 stands for 400.
	Status int
}

// Errorf makes an error with HTTP status 400, the status of nearly every error that is the caller's.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithStatus is the same error with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	changed := *e
	changed.Status = status
	return &changed
}

// Error is the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// HTTPStatus is the status to answer with.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}
