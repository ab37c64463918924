package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"kidoban/gateway/api"
)

// problems is a listener on whose Unix sockets the server's own errors are problems, as those of
// the api are.
type problems struct{ net.Listener }

func (l problems) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if socket, ok := c.(*net.UnixConn); ok {
		return problemConn{socket}, err
	}
	return c, err
}

// problemConn is a connection. What is no request of HTTP never reaches a handler: net/http
// refuses it in plain text, in one Write, with these two headers alone.
type problemConn struct{ *net.UnixConn }

// refusedMost bounds such a Write, in bytes.
const refusedMost = 512

var (
	refusedBegins = []byte("HTTP/1.1 ")
	refusedInside = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
)

func (c problemConn) Write(text []byte) (int, error) {
	if len(text) > refusedMost || !bytes.HasPrefix(text, refusedBegins) {
		return c.UnixConn.Write(text)
	}
	line, detail, refused := bytes.Cut(text, refusedInside)
	code, _, _ := strings.Cut(string(line[len(refusedBegins):]), " ")
	status, err := strconv.Atoi(code)
	if !refused || err != nil || bytes.Contains(line, []byte("\r\n")) { // a handler's answer has other headers before
		return c.UnixConn.Write(text)
	}
	problem, _ := json.Marshal(api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: string(detail)}) // text and a number
	_, err = fmt.Fprintf(c.UnixConn, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(problem), problem)
	return len(text), err
}
