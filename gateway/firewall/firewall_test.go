package firewall

import (
	"testing"

	"kidoban/gateway/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
