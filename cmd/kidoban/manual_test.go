package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	gocmp "github.com/google/go-cmp/cmp"

	"kidoban/config"
)

// packageFolder has what goes into the packages beside the program.
const packageFolder = "../../.ci/package/"

// TestReferenceManual holds the manual page against the commands and settings. With -update it is
// written anew.
func TestReferenceManual(t *testing.T) {
	generatedFile(t, "kidoban.1.md", manual(model(t)))
}

// TestReferenceCompletion holds the completions of shells against the commands. With -update they
// are written anew.
func TestReferenceCompletion(t *testing.T) {
	root := model(t)
	for name, text := range map[string]string{"kidoban.bash": bashCompletion(root), "kidoban.zsh": zshCompletion(root), "kidoban.fish": fishCompletion(root)} {
		generatedFile(t, name, text)
	}
}

// TestCompletion asks the shells what they would offer.
func TestCompletion(t *testing.T) {
	for _, shell := range []struct{ name, ask string }{
		{"bash", `source kidoban.bash; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _kidoban; echo "${COMPREPLY[@]}"`},
		{"fish", `source kidoban.fish; complete -C "$(string join ' ' -- %s)" | cut -f 1`},
		// Outside of its line editor zsh cannot complete: what it would describe is printed.
		{"zsh", `_describe() { print -l -- ${(P)argv[-1]%%%%:*} }; _files() { }; words=(%s); CURRENT=${#words}; source kidoban.zsh`},
	} {
		t.Run(shell.name, func(t *testing.T) {
			if _, err := exec.LookPath(shell.name); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skipf("%v (apt-get install %s)", err, shell.name)
			}
			for _, c := range []struct {
				line string
				want string // one of what is offered, or
				not  string // none of it
			}{
				{"kidoban ''", "journal", "verify"},
				{"kidoban journal ''", "verify", "journal"},
				{"kidoban --lang ja journal ''", "verify", "journal"},
				{"kidoban journal verify -", "--since", "--reason"},
				{"kidoban --lang ''", "auto", "journal"},
				{"kidoban journal list --lang j", "ja", "--lang"},
				{"kidoban close ''", "", "journal"},
			} {
				ask := exec.Command(shell.name, "-c", fmt.Sprintf(shell.ask, c.line))
				ask.Dir, ask.Env = packageFolder, append(os.Environ(), "HOME="+t.TempDir())
				out, err := ask.CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v\n%s", c.line, err, out)
				}
				offered := strings.Fields(string(out))
				if c.want != "" && !slices.Contains(offered, c.want) || slices.Contains(offered, c.not) {
					t.Errorf("%s: %q is offered, want %q among it, and not %q", c.line, offered, c.want, c.not)
				}
			}
		})
	}
}

// model is the program's commands.
func model(t *testing.T) *kong.Node {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.Name("kidoban"), kong.Description(description))
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.Node
}

// generatedFile compares a file with what the program makes of it. With -update it is written.
func generatedFile(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(packageFolder, name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := gocmp.Diff(read(t, path), want); diff != "" {
		t.Errorf("%s is out of date, `make generate` writes it anew (-file +program):\n%s", path, diff)
	}
}

// shown gives the commands in a command that the help shows.
func shown(n *kong.Node) []*kong.Node {
	return slices.DeleteFunc(slices.Clone(n.Children), func(c *kong.Node) bool { return c.Hidden })
}

// walk calls do for a command and for all in it.
func walk(n *kong.Node, do func(*kong.Node)) {
	do(n)
	for _, c := range shown(n) {
		walk(c, do)
	}
}

// path is a command as it is typed.
func path(n *kong.Node) string {
	if n.Parent == nil {
		return n.Name
	}
	return path(n.Parent) + " " + n.Name
}

// flags are those that a command takes, its parents' too.
func flags(n *kong.Node) (all []*kong.Flag) {
	for _, group := range n.AllFlags(true) {
		all = append(all, group...)
	}
	return all
}

// manual is the page kidoban(1), as Markdown for go-md2man.
func manual(root *kong.Node) string {
	var b strings.Builder
	about, exit, _ := strings.Cut(root.Help, "\n\nExit status: ")
	fmt.Fprintf(&b, "# NAME\n\nkidoban - the gate for vendors' maintenance\n\n# SYNOPSIS\n\n**kidoban** *COMMAND* [*FLAGS*]\n\n# DESCRIPTION\n\n%s\n\n", about)
	b.WriteString("Every command has **--help**, and these flags:\n\n")
	manualFlags(&b, root)
	b.WriteString("# COMMANDS\n\n")
	walk(root, func(n *kong.Node) {
		if n.Leaf() {
			fmt.Fprintf(&b, "## %s\n\n%s\n\n", markdown(strings.TrimSuffix(n.Summary(), " [flags]")), markdown(cmp.Or(n.Detail, n.Help)))
			for _, p := range n.Positional {
				fmt.Fprintf(&b, "*%s*\n:   %s\n\n", markdown(p.Summary()), markdown(p.Help))
			}
			manualFlags(&b, n)
		}
	})
	b.WriteString("# SETTINGS\n\nThey are environment variables. The service reads them from /etc/kidoban/environment.\n\n")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Settings]()) {
		standard := strings.Trim(cmp.Or(field.Tag.Get("shown"), field.Tag.Get("envDefault")), "`")
		fmt.Fprintf(&b, "**%s**\n:   %s Default: %s.\n\n", markdown(field.Tag.Get("env")), field.Tag.Get("meaning"), markdown(cmp.Or(standard, "none")))
	}
	b.WriteString("# FILES\n\n")
	for _, f := range [][2]string{
		{"/etc/kidoban/policy.yaml", "The policy, see kidoban-policy(5). An example is in /usr/share/doc/kidoban/examples."},
		{"/etc/kidoban/environment", "Settings of the services, one KIDOBAN_NAME=value a line."},
		{"/var/lib/kidoban", "Keys, journal, and what is shut. Removing the package keeps it."},
		{"/run/kidoban/admin.sock", "The admin socket, for the group kidoban."},
	} {
		fmt.Fprintf(&b, "*%s*\n:   %s\n\n", f[0], f[1])
	}
	fmt.Fprintf(&b, "# EXIT STATUS\n\n%s\n\n# SEE ALSO\n\n**kidoban-policy**(5), **wg**(8), **nft**(8)\n", exit)
	return b.String()
}

func manualFlags(b *strings.Builder, n *kong.Node) {
	for _, f := range n.Flags {
		if f.Hidden || f.Name == "help" {
			continue
		}
		name := "**--" + f.Name + "**"
		if f.Short != 0 {
			name = "**-" + string(f.Short) + "**, " + name
		}
		if !f.IsBool() {
			name += "=*" + markdown(value(f)) + "*"
		}
		fmt.Fprintf(b, "%s\n:   %s\n\n", name, markdown(f.Help))
	}
}

// value says what a flag takes.
func value(f *kong.Flag) string {
	if f.PlaceHolder == "" && f.Enum != "" {
		return strings.Join(f.EnumSlice(), "|")
	}
	return f.FormatPlaceHolder()
}

// markdown keeps the characters of a text that Markdown would take for marks.
func markdown(text string) string {
	return strings.NewReplacer(`*`, `\*`, `_`, `\_`, `<`, `\<`, `[`, `\[`, `]`, `\]`, "`", "\\`").Replace(text)
}

const generatedHead = "# Generated from the commands of kidoban: `make generate` writes it anew.\n"

// An offer is what a shell proposes once the command, the word before the cursor and the beginning
// of the word at it fit the pattern, in which | is between them. The first that fits counts.
type offer struct {
	pattern []string    // texts, with any text between them
	words   [][2]string // with their meaning, if they have one
}

// offers are those of all commands: the values of a flag, flags after a dash, or else commands.
func offers(root *kong.Node) (all []offer) {
	walk(root, func(n *kong.Node) {
		var options, commands [][2]string
		for _, f := range flags(n) {
			options = append(options, [2]string{"--" + f.Name})
		}
		for _, f := range n.Flags {
			if f.Enum == "" {
				continue
			}
			var values [][2]string
			for _, v := range f.EnumSlice() {
				if v != "" {
					values = append(values, [2]string{v})
				}
			}
			all = append(all, offer{[]string{path(n), "|--" + f.Name + "|", ""}, values})
		}
		for _, c := range shown(n) {
			commands = append(commands, [2]string{c.Name, c.Help})
		}
		all = append(all, offer{[]string{path(n) + "|", "|-", ""}, options})
		if len(commands) > 0 {
			all = append(all, offer{[]string{path(n) + "|", ""}, commands})
		}
	})
	return all
}

// glob is the pattern in the words of bash and zsh.
func (o offer) glob() string {
	var parts []string
	for _, text := range o.pattern {
		if text != "" {
			text = quote(text)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "*")
}

// list writes the words as a list, each as form makes it.
func (o offer) list(form func(word, meaning string) string) string {
	var all []string
	for _, w := range o.words {
		all = append(all, form(w[0], w[1]))
	}
	return strings.Join(all, " ")
}

// knownCommands has all commands but the program itself, each as one word.
func knownCommands(root *kong.Node, quote func(string) string, between string) string {
	var all []string
	walk(root, func(n *kong.Node) {
		if n.Parent != nil {
			all = append(all, quote(path(n)))
		}
	})
	return strings.Join(all, between)
}

// quote writes a text as one word of bash and zsh.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuote writes a text as one word of fish.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

func bashCompletion(root *kong.Node) string {
	var b strings.Builder
	b.WriteString(generatedHead + `_kidoban() {
	local command=kidoban word offered=
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "$command $word" in
		` + knownCommands(root, quote, " | ") + `) command+=" $word" ;;
		esac
	done
	word=${COMP_WORDS[COMP_CWORD]}
	case "$command|${COMP_WORDS[COMP_CWORD-1]}|$word" in
`)
	for _, o := range offers(root) {
		fmt.Fprintf(&b, "\t%s) offered='%s' ;;\n", o.glob(), o.list(func(word, _ string) string { return word }))
	}
	b.WriteString(`	esac
	COMPREPLY=($(compgen -W "$offered" -- "$word"))
}
complete -o default -F _kidoban kidoban
`)
	return b.String()
}

func zshCompletion(root *kong.Node) string {
	var b strings.Builder
	b.WriteString("#compdef kidoban\n" + generatedHead + `local command=kidoban word
local -a offered
for word in "${(@)words[2,CURRENT-1]}"; do
	case "$command $word" in
	` + knownCommands(root, quote, " | ") + `) command+=" $word" ;;
	esac
done
case "$command|${words[CURRENT-1]}|${words[CURRENT]}" in
`)
	for _, o := range offers(root) {
		fmt.Fprintf(&b, "%s) offered=(%s) ;;\n", o.glob(), o.list(func(word, meaning string) string {
			return quote(strings.TrimSuffix(word+":"+meaning, ":"))
		}))
	}
	b.WriteString(`esac
if (( ${#offered} )); then
	_describe kidoban offered
else
	_files
fi
`)
	return b.String()
}

func fishCompletion(root *kong.Node) string {
	var b strings.Builder
	b.WriteString(generatedHead + `function __kidoban_offers
	set -l command kidoban
	set -l words (commandline -opc)
	for word in $words[2..]
		switch "$command $word"
			case ` + knownCommands(root, fishQuote, " ") + `
				set command "$command $word"
		end
	end
	switch "$command|$words[-1]|"(commandline -ct)
`)
	for _, o := range offers(root) {
		fmt.Fprintf(&b, "\t\tcase %s\n\t\t\tprintf %%b\\n %s\n", fishQuote(strings.Join(o.pattern, "*")), o.list(func(word, meaning string) string {
			return fishQuote(strings.TrimSuffix(word+`\t`+meaning, `\t`))
		}))
	}
	b.WriteString(`	end
end
complete -c kidoban -f -n '__kidoban_offers | string length -q' -a '(__kidoban_offers)'
`)
	return b.String()
}
