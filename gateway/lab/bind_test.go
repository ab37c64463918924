package lab

import (
	"encoding/binary"
	"testing"

	"golang.zx2c4.com/wireguard/device"
)

// Of responses a client takes in one to the initiation that it sent last, and
// none while it is about to send another.
func TestAnAnswerToAnEarlierAttemptDoesNotPass(t *testing.T) {
	message := func(kind uint32, size, at int, index uint32) []byte {
		p := make([]byte, size)
		binary.LittleEndian.PutUint32(p, kind)
		binary.LittleEndian.PutUint32(p[at:], index)
		return p
	}
	initiation := func(sender uint32) []byte {
		return message(device.MessageInitiationType, device.MessageInitiationSize, 4, sender)
	}
	response := func(receiver uint32) []byte {
		return message(device.MessageResponseType, device.MessageResponseSize, 8, receiver)
	}
	data := func(receiver uint32) []byte {
		return message(device.MessageTransportType, device.MinMessageSize, 4, receiver)
	}
	var b hostBind
	lets := func(when string, packet []byte, want bool) {
		t.Helper()
		if got := b.lets(packet); got != want {
			t.Errorf("%s: passes: %t, want %t", when, got, want)
		}
	}
	b.sends(initiation(1))
	lets("data", data(9), true)
	if answered, _ := b.withhold(); answered {
		t.Error("answered before an answer came")
	}
	lets("an answer while the next attempt begins", response(1), false)
	lets("data while the next attempt begins", data(9), true)
	b.sends(initiation(2))
	b.sends(data(9)) // changes nothing
	lets("an answer to the attempt before", response(1), false)
	lets("an answer", response(2), true)
	if answered, _ := b.withhold(); !answered {
		t.Error("not answered though an answer came")
	}
	lets("the answer again, while the next attempt begins", response(2), false)
	b.sends(initiation(3))
	lets("an initiation of the other end", initiation(4), true)
	if answered, _ := b.withhold(); answered {
		t.Error("answered because of an answer to the attempt before")
	}
}
