package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// A process is a running program. Its log goes to a file, as an operator's would.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	at   map[string]string // the URLs that it has logged, by name
	done chan struct{}     // closed when it has ended
}

// start starts a program with settings from env, and kills it at the end of the benchmark.
func start(b *testing.B, env []string, program string, args ...string) *process {
	b.Helper()
	log, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close() // the process has its own
	p := &process{name: filepath.Base(program), log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOG_FORMAT=json"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // who waits for it asks the process
	}()
	b.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		if b.Failed() {
			b.Logf("%s said at last: %s", p.name, p.said(2000))
		}
	})
	return p
}

// said returns the last bytes of the log.
func (p *process) said(bytes int) string {
	text, _ := os.ReadFile(p.log) // what cannot be read is shown as nothing
	return string(text[max(0, len(text)-bytes):])
}

// listening waits until the program has logged its addresses.
func (p *process) listening(b *testing.B) {
	b.Helper()
	wait.Until(b, p.name+" listens", func() bool {
		p.runs(b)
		log, err := os.Open(p.log)
		if err != nil {
			b.Fatal(err)
		}
		defer log.Close() // it was only read
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var entry map[string]string
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry["msg"] == "listening" {
				p.at = entry
				return true
			}
		}
		return false
	})
}

// runs fails the benchmark if the process has ended.
func (p *process) runs(b *testing.B) {
	b.Helper()
	select {
	case <-p.done:
		b.Fatalf("%s ended: %s", p.name, p.said(2000))
	default:
	}
}

// ready waits until the program is ready.
func (p *process) ready(b *testing.B) {
	b.Helper()
	if p.at == nil {
		p.listening(b)
	}
	wait.Within(b, 10*time.Minute, p.name+" is ready", func() bool {
		p.runs(b)
		resp, err := http.Get(p.at["ops"] + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close() // its status is enough
		return resp.StatusCode == http.StatusOK
	})
}

func (p *process) signal(b *testing.B, s syscall.Signal) {
	b.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		b.Fatalf("signal %s: %v", p.name, err)
	}
}

// end interrupts the process, as Ctrl-C does, and waits for its end.
func (p *process) end(b *testing.B) {
	b.Helper()
	p.signal(b, syscall.SIGCONT)
	p.signal(b, syscall.SIGINT)
	wait.For(b, p.name+" ends", p.done)
}

// host returns the host and port of one of the addresses.
func (p *process) host(name string) string { return strings.TrimPrefix(p.at[name], "http://") }

// ticks is how many units of time in /proc/<pid>/stat a second has, on every Linux that Go knows.
const ticks = 100

// cpu returns the processor time that the process has used.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	// the fields after the name, which may contain anything
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var sum int
	for _, f := range fields[11:13] { // of the program and of the system on its behalf
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks
}

// metrics returns the metrics of a process: each series, and the sum of all series of a name.
func (p *process) metrics(b *testing.B) map[string]float64 {
	b.Helper()
	resp, err := http.Get(p.at["ops"] + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close() // it is read to its end
	all, err := readMetrics(bufio.NewScanner(resp.Body))
	if err != nil {
		b.Fatal(err)
	}
	return all
}

func readMetrics(lines *bufio.Scanner) (map[string]float64, error) {
	all := map[string]float64{}
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		if space < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read metric %q: %w", line, err)
		}
		name, _, labelled := strings.Cut(line[:space], "{")
		all[name] += value
		if labelled {
			all[line[:space]] = value
		}
	}
	return all, lines.Err()
}

// A memory is how much memory a process holds, in bytes.
type memory struct {
	resident float64
	live     float64 // on the heap after a collection, and stacks
}

// memory returns what the process holds. The program runs with --pprof, which lets others ask for a
// collection.
func (p *process) memory(b *testing.B) memory {
	b.Helper()
	for range 2 { // the second one frees what the first one has found
		resp, err := http.Get(p.at["ops"] + "/debug/pprof/heap?gc=1")
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close() // the collection has happened
		if resp.StatusCode != http.StatusOK {
			b.Fatalf("collect the garbage of %s: %s", p.name, resp.Status)
		}
	}
	m := p.metrics(b)
	return memory{m["process_resident_memory_bytes"], m["go_memstats_heap_alloc_bytes"] +
		m["go_memstats_stack_inuse_bytes"]}
}
