package evidence

import (
	"reflect"
	"strings"
	"testing"

	"kidoban/gateway/evidence/catalogue"
)

// TestOrdersOfTheCatalogue are those that the command takes.
func TestOrdersOfTheCatalogue(t *testing.T) {
	field, _ := reflect.TypeFor[inspectCommand]().FieldByName("Order")
	if got, want := field.Tag.Get("enum"), strings.Join(catalogue.Orders(), ","); got != want {
		t.Errorf("--order takes %s, the catalogue has %s", got, want)
	}
}
