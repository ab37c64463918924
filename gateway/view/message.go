package view

import (
	"bytes"
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
// A value is a string, a number, a list of strings, or another Message; Say makes
// strings of errors and of what can tell its text.
type Args map[string]any

// Message is one thing that a person should know: a doubt, a hint, a warning
// or the outcome of a command. The zero value says nothing.
type Message struct {
	Code Code
	Args Args
	text string // as it was sent, for a code that this program does not know
}

// Say makes a message. The arguments must be those that the table's text names.
func Say(code Code, args Args) Message {
	m := Message{Code: code, Args: Args{}}
	for name, value := range args {
		switch v := value.(type) {
		case Message:
		case error:
			value = v.Error()
		case fmt.Stringer:
			value = v.String()
		}
		m.Args[name] = value
	}
	return m
}

// Empty reports whether the message says nothing.
func (m Message) Empty() bool { return m.Code == "" }

// In gives the text of the message in a language: English where the table does
// not have the language.
func (m Message) In(l Language) string {
	words, known := table[m.Code]
	if !known {
		return m.text
	}
	text := words.en
	if l == Japanese {
		text = words.ja
	}
	var pairs []string
	for name, value := range m.Args {
		switch v := value.(type) {
		case []string:
			value = strings.Join(v, ", ")
		case Message:
			value = v.In(l)
		}
		pairs = append(pairs, "{"+name+"}", fmt.Sprint(value))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// String gives the English text.
func (m Message) String() string { return m.In(English) }

// Texts gives the English texts of messages.
func Texts(all []Message) []string {
	texts := []string{}
	for _, m := range all {
		texts = append(texts, m.String())
	}
	return texts
}

// sent is a message as JSON.
type sent[A any] struct {
	Code Code   `json:"code"`
	Args A      `json:"args,omitempty"`
	Text string `json:"text"`
}

// MarshalJSON writes the code, the arguments and the English text.
func (m Message) MarshalJSON() ([]byte, error) {
	return json.Marshal(sent[Args]{m.Code, m.Args, m.String()})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (m *Message) UnmarshalJSON(text []byte) error {
	var raw sent[map[string]json.RawMessage]
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*m = Message{Code: raw.Code, Args: Args{}, text: raw.Text}
	for name, value := range raw.Args {
		var err error
		switch value[0] {
		case '{':
			m.Args[name], err = decoded[Message](value)
		case '[':
			m.Args[name], err = decoded[[]string](value)
		case '"':
			m.Args[name], err = decoded[string](value)
		default:
			m.Args[name] = json.Number(bytes.TrimSpace(value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func decoded[T any](text []byte) (v T, err error) {
	err = json.Unmarshal(text, &v)
	return v, err
}
