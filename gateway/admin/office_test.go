package admin

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

// TestWhoOffice: the office's user or the gateway's own, and root. Everybody else is refused.
func TestWhoOffice(t *testing.T) {
	office := uint32(os.Geteuid())
	if u, err := user.Lookup(view.OfficeUser); err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		office = uint32(uid)
	}
	for name, c := range map[string]struct {
		peer peer
		host string
		want bool
	}{
		"the office":      {peer{cred: &unix.Ucred{Uid: office}}, host, true},
		"root":            {peer{cred: &unix.Ucred{Uid: 0}}, host, true},
		"another user":    {peer{cred: &unix.Ucred{Uid: office + 4711}}, host, false},
		"nobody":          {peer{cred: &unix.Ucred{Uid: nobody}}, host, false},
		"an unknown one":  {peer{err: errors.New("the kernel does not say")}, host, false},
		"another host":    {peer{cred: &unix.Ucred{Uid: office}}, "evil.example", false},
		"a browser's tab": {peer{cred: &unix.Ucred{Uid: office}}, "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/v1/status", nil)
		if r.Host = c.host; c.host == "" {
			r.Host = host
			r.Header.Set("Origin", "null")
		}
		if _, err := WhoOffice(r.WithContext(context.WithValue(t.Context(), peerKey{}, c.peer))); (err == nil) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := WhoOffice(httptest.NewRequest(http.MethodGet, "http://"+host+"/v1/status", nil)); err == nil {
		t.Error("a request from elsewhere is taken")
	}
}

// TestListenOffice: without a path there is no socket, and with one it is closed to others.
func TestListenOffice(t *testing.T) {
	l, err := ListenOffice("")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	l.Close()
	if err := <-ended; err == nil {
		t.Error("a connection came from nowhere")
	}
	path := filepath.Join(t.TempDir(), "office.sock")
	if l, err = ListenOffice(path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}
