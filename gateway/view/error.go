package view

// Error is a message that says why something was not done.
type Error struct {
	Message
	Cause error // nil: there is none
}

// Error returns the English text.
func (e *Error) Error() string { return e.Message.String() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }
