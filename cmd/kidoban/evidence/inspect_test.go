package evidence

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/view"
)

// TestOrdersOfTheCatalogue are those that the command takes.
func TestOrdersOfTheCatalogue(t *testing.T) {
	field, _ := reflect.TypeFor[inspectCommand]().FieldByName("Order")
	if got, want := field.Tag.Get("enum"), strings.Join(catalogue.Orders(), ","); got != want {
		t.Errorf("--order takes %s, the catalogue has %s", got, want)
	}
}

// TestMistakenAnswersAreWrongUsage, told in the reader's language with all mistakes, as the gateway sent them.
func TestMistakenAnswersAreWrongUsage(t *testing.T) {
	var message *view.Error
	if !errors.As(catalogue.CheckAnswer(evidence.Answer{Control: "10", Answer: "na"}, nil, time.Now()), &message) {
		t.Fatal("the answer is taken")
	}
	text, _ := json.Marshal(api.Problem{Status: 409, Code: message.Code, Args: message.Args})
	var problem api.Problem
	if err := json.Unmarshal(text, &problem); err != nil {
		t.Fatal(err)
	}
	var exit *terminal.Exit
	if !errors.As(mistaken(&problem), &exit) || exit.Status != terminal.Usage || !strings.Contains(exit.In(view.Japanese), "--text") || !strings.Contains(exit.In(view.Japanese), "--until") {
		t.Errorf("%v of %s", exit, text)
	}
	other := errors.New("no gateway")
	if mistaken(other) != other {
		t.Error("another error became wrong usage")
	}
}
