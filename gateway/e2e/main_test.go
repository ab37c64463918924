package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// Exit statuses of the program.
const (
	exitYes    = 0
	exitFailed = 1
	exitUsage  = 2
	exitNo     = 3
)

// Periods of the program that tests wait for: routes are read anew every
// routesAgain, and a refusal is a hint when it goes on for refusingLasts.
const (
	routesAgain   = 10 * time.Second
	refusingLasts = time.Minute
)

// Layers that the program under test can be without. layers_test.go of
// cmd/kidoban says what each means.
const (
	gateLayer   = "gate"
	kernelLayer = "kernel"
	recordLayer = "record"
	doubtLayer  = "doubt"
	copiesLayer = "copies"
	reasonLayer = "reason"
	countsLayer = "counts"
)

// Variables that the program under test reads; see there as well.
const (
	layersVariable  = "PROMISE_WITHOUT"
	offsetVariable  = "PROMISE_OFFSET"
	hangVariable    = "PROMISE_HANG"
	stuckVariable   = "PROMISE_STUCK"
	profileVariable = "BENCH_PROFILE"
)

// programVariable names the program for the process in the namespace.
const programVariable = "E2E_PROGRAM"

var (
	program      string // the file of the program under test
	raceDetector bool   // these tests are built with it
	update       = flag.Bool("update", false, "rewrite golden texts")
)

// TestMain builds the program before it enters the namespace, where no module
// could be downloaded.
func TestMain(m *testing.M) {
	waitTogether()
	if os.Getenv(programVariable) == "" && flag.Lookup("test.list").Value.String() == "" {
		file, err := buildProgram()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Setenv(programVariable, file)
	}
	lab.Main(suite{m})
}

// buildProgram builds the test binary of cmd/kidoban, which is the program when
// it runs under the name kidoban, and can be without layers.
func buildProgram() (file string, err error) {
	folder, err := os.MkdirTemp("", "kidoban-e2e-")
	if err != nil {
		return "", err
	}
	file = filepath.Join(folder, "kidoban")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	profile := "off"
	if *performance { // as it is shipped
		profile = "../../cmd/kidoban/throughput.pgo"
	}
	command := exec.CommandContext(ctx, "go", "test", "-c", fmt.Sprintf("-race=%t", raceDetector), "-pgo="+profile, "-o", file, "kidoban/cmd/kidoban")
	if out, err := command.CombinedOutput(); err != nil {
		os.RemoveAll(folder)
		return "", fmt.Errorf("%v: %w\n%s", command.Args, err, out)
	}
	return file, nil
}

// suite removes the program after the tests.
type suite struct{ *testing.M }

func (s suite) Run() int {
	program = os.Getenv(programVariable)
	os.Unsetenv(programVariable) // a process that a test starts builds its own
	if program != "" {
		defer os.RemoveAll(filepath.Dir(program))
	}
	return s.M.Run()
}

// readSources reads the folders of the program's sources. `go test` takes note of
// what a test reads, so it gives no cached result when a source has changed.
var readSources = sync.OnceValue(func() (err error) {
	for _, root := range []string{"../../cmd", "../../config", "../../gateway", "../../go.mod"} {
		err = errors.Join(err, filepath.WalkDir(root, func(_ string, _ fs.DirEntry, err error) error { return err }))
	}
	return err
})

// waitTogether lets tests that mostly wait, as those of the promises do, wait
// at the same time, unless the command line says how many.
func waitTogether() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "6") // else they run as they did
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
