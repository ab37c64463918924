// Package view is the read model of the gateway: immutable snapshots, and
// messages for people, with one table of words in English and Japanese.
package view

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// Language is a language that messages are written in.
type Language string

// The languages of the table.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

// Code names a message of words.txt. Programs decide by the code and never by the
// text.
type Code string

// Codes that several places use.
const (
	Begins      Code = "starting"
	Stops       Code = "stopping"
	NoPolicy    Code = "no_policy"    // no policy is in force, and why
	LatchUnread Code = "latch_unread" // why everything is shut: the latch cannot be read
)

// Args are the values that a message's text names in braces, as in {cause}.
// A value is a string, a number, another Message, or a list of strings or of
// Messages.
type Args map[string]any

// Message is one thing that a person should know: a doubt, a hint, a warning
// or the outcome of a command. The zero value says nothing.
type Message struct {
	Code Code
	Args Args
	text string // as it was sent, for a code that this program does not know
}

// Say makes a message. The arguments must be those that the text names. An *Error
// becomes its message; other errors and Stringers become strings.
func Say(code Code, args Args) Message {
	m := Message{Code: code, Args: Args{}}
	for name, value := range args {
		switch v := value.(type) {
		case Message:
		case *Error:
			value = v.Message
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

// place begins a message about a policy file, which has its arguments.
const place = "{file}:{line}:{column}: {where}: "

// Equal reports whether two messages say the same.
func (m Message) Equal(o Message) bool { return m.Code == o.Code && reflect.DeepEqual(m.Args, o.Args) }

// In gives the text of the message in a language.
func (m Message) In(l Language) string {
	words, known := table[m.Code]
	if !known {
		return m.text
	}
	text := cmp.Or(words[l], words[English])
	if m.Args["where"] != nil {
		text = place + text
	}
	if id, ok := m.Args["id"].(string); ok {
		text = pasted.ReplaceAllString(text, "${1}"+strings.TrimPrefix(id, policy.RequestMark))
	}
	var pairs []string
	for name, value := range m.Args {
		switch v := value.(type) {
		case []string:
			value = strings.Join(v, ", ")
		case Message:
			value = v.In(l)
		case []Message:
			var parts []string
			for _, part := range v {
				parts = append(parts, part.In(l))
			}
			value = strings.Join(parts, "; ")
		}
		text := fmt.Sprint(value)
		if l == Japanese && slices.Contains(durations, name) {
			text = units.Replace(text)
		}
		pairs = append(pairs, "{"+name+"}", text)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// pasted is the id of a request in a command, which people paste. It goes without its mark:
// some shells take that for a home folder.
var pasted = regexp.MustCompile("(`kidoban [a-z]+ )\\{id\\}")

// durations are the arguments that are times, as time.Duration writes them; units
// are its units in Japanese.
var (
	durations = []string{"wait", "age", "every"}
	units     = strings.NewReplacer("ms", "ミリ秒", "µs", "マイクロ秒", "h", "時間", "m", "分", "s", "秒")
)

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

// Few is the value of a message's list: all names up to a number of them, else the
// first ones and how many others there are.
func Few(names []string, most int) any {
	if more := len(names) - most; more > 0 {
		return Say("say_names_more", Args{"names": names[:most], "count": more})
	}
	return names
}

// Error is a message that says why something was not done.
type Error struct {
	Message
	Cause error // nil: there is none
}

func (e *Error) Error() string { return e.Message.String() }

func (e *Error) Unwrap() error { return e.Cause }

// sent is a message or a doubt as JSON.
type sent struct {
	About string `json:"about,omitempty"` // of a doubt
	Code  Code   `json:"code"`
	Args  Args   `json:"args,omitempty"`
	Text  string `json:"text"`
}

func (m Message) sent() sent    { return sent{Code: m.Code, Args: m.Args, Text: m.String()} }
func (s sent) message() Message { return Message{Code: s.Code, Args: s.Args, text: s.Text} }

// MarshalJSON writes the code, the arguments and the English text.
func (m Message) MarshalJSON() ([]byte, error) { return json.Marshal(m.sent()) }

// UnmarshalJSON reads the form of MarshalJSON.
func (m *Message) UnmarshalJSON(text []byte) error {
	var raw sent
	err := json.Unmarshal(text, &raw)
	*m = raw.message()
	return err
}

// UnmarshalJSON reads each value as Say had it; a number becomes a json.Number.
func (a *Args) UnmarshalJSON(text []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*a = Args{}
	for name, value := range raw {
		var err error
		switch value[0] {
		case '{':
			(*a)[name], err = decoded[Message](value)
		case '[':
			if (*a)[name], err = decoded[[]string](value); err != nil {
				(*a)[name], err = decoded[[]Message](value)
			}
		case '"':
			(*a)[name], err = decoded[string](value)
		default:
			(*a)[name] = json.Number(value)
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

// Subjects of doubts. The metric kidoban_doubt has a series for each but
// Stopping and Starting.
const (
	Journal  = "journal"
	Clock    = "clock"
	Policy   = "policy"
	Key      = "key" // the gateway's private key
	Tunnel   = "tunnel"
	Ruleset  = "ruleset"
	Stopping = "stopping"
	Loop     = "loop"     // it does not turn
	Starting = "starting" // it has not turned yet
)

// Doubt is a reason for the gateway to refuse every engineer.
type Doubt struct {
	About   string
	Message Message
}

// Joined gives the English texts of doubts as one.
func Joined(doubts []Doubt) string {
	var all []string
	for _, d := range doubts {
		all = append(all, d.Message.String())
	}
	return strings.Join(all, "; ")
}

// MarshalJSON writes the subject and the fields of the message.
func (d Doubt) MarshalJSON() ([]byte, error) {
	raw := d.Message.sent()
	raw.About = d.About
	return json.Marshal(raw)
}

// UnmarshalJSON reads the form of MarshalJSON.
func (d *Doubt) UnmarshalJSON(text []byte) error {
	var raw sent
	err := json.Unmarshal(text, &raw)
	*d = Doubt{raw.About, raw.message()}
	return err
}

// Hint is a message about the host.
type Hint struct {
	Message   Message
	Targets   []string // the targets that get none of their packets, or only a part
	Engineers []string // that get no answers, as vendor/engineer
}

//go:embed words.txt
var wordsFile string

// table has the text of every message, by language.
var table = parse(wordsFile)

func parse(file string) map[Code]map[Language]string {
	all := map[Code]map[Language]string{}
	var texts map[Language]string // of the last code
	for i, line := range strings.Split(file, "\n") {
		word, text, isText := strings.Cut(line, " ")
		l := Language(word)
		switch {
		case line == "" || word == "#":
		case !isText && all[Code(word)] == nil:
			texts = map[Language]string{}
			all[Code(word)] = texts
		case isText && texts != nil && (l == English || l == Japanese) && texts[l] == "":
			texts[l] = text
		default:
			panic(fmt.Sprintf("words.txt:%d: %q is neither a new code nor its text", i+1, line))
		}
	}
	return all
}

// Meaning explains a reason.
func Meaning(r policy.Reason) Message { return Say(ReasonCode(r.String(), false), nil) }

// ReasonCode is the code of the text that explains a reason. plain: to a host behind a plain line.
func ReasonCode(reason string, plain bool) Code {
	if code := hostReasons[reason]; plain && code != "" {
		return code
	}
	return "reason_" + Code(reason)
}

// hostReasons are the reasons whose text for engineers does not fit a host.
var hostReasons = map[string]Code{
	"engineer_shut": "reason_host_shut", "wrong_source": "reason_host_source", "unlisted_target": "reason_host_target",
}

// StageName names where a request stands.
func StageName(stage policy.Stage) Message { return Say("stage_"+Code(stage), nil) }
