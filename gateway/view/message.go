package view

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Language is a language that messages are written in.
type Language string

// The languages of the table.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

// Code names a message. Programs decide by the code and never by the text.
type Code string

// Args are the values that a message's text names in braces, as in {cause}.
// A value is a string, a number, or a list of strings.
type Args map[string]any

// Message is one thing that a person should know: a doubt, a hint, a warning
// or the outcome of a command. The zero value says nothing.
type Message struct {
	Code Code
	Args Args
}

// Say makes a message. The arguments must be those that the table's text names.
func Say(code Code, args Args) Message { return Message{Code: code, Args: args} }

// Empty reports whether the message says nothing.
func (m Message) Empty() bool { return m.Code == "" }

// In gives the text of the message in a language: English where the table does
// not have the language.
func (m Message) In(l Language) string {
	text, ok := table[m.Code][l]
	if !ok {
		text = table[m.Code][English]
	}
	var pairs []string
	for name, value := range m.Args {
		if list, ok := value.([]string); ok {
			value = strings.Join(list, ", ")
		}
		pairs = append(pairs, "{"+name+"}", fmt.Sprint(value))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// String gives the English text.
func (m Message) String() string { return m.In(English) }

// MarshalJSON writes the code, the arguments and the English text.
func (m Message) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code Code   `json:"code"`
		Args Args   `json:"args,omitempty"`
		Text string `json:"text"`
	}{m.Code, m.Args, m.String()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Message) UnmarshalJSON(text []byte) error {
	var raw struct {
		Code Code `json:"code"`
		Args Args `json:"args"`
	}
	err := json.Unmarshal(text, &raw)
	m.Code, m.Args = raw.Code, raw.Args
	return err
}
