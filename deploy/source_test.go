//go:build docker

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
)

// TestFromSource builds images as `docker compose up --build` does, with the programs compiled in
// the Dockerfile's first stage, and runs them. It takes minutes, so it runs in the long form only.
func TestFromSource(t *testing.T) {
	if !wait.Long() {
		t.Skip("it compiles everything again; set PILLION_LONG=1")
	}
	goImage(t, "golang:"+find(t, "../Dockerfile", `(?m)^ARG GO_IMAGE=golang:(\S+)$`))
	for target, programs := range map[string][]string{
		"ops": {"pillion", "authsvc", "nats"}, "authsvc": {"/authsvc"}, "usersvc": {"/usersvc"}, "ridersvc": {"/ridersvc"},
		"pillion": {"/pillion"}, "build": nil,
	} {
		image := "pillion-source-test-" + target
		docker(t, "build", "--target", target, "-t", image, "..")
		t.Cleanup(func() { docker(t, "rmi", image) })
		for _, program := range programs {
			if says := docker(t, "run", "--rm", "--read-only", "--entrypoint", program, image, "--version"); says == "" {
				t.Errorf("%s of %s says nothing", program, target)
			} else {
				t.Logf("%s: %s", target, says)
			}
		}
	}
}

// goImage fetches the image in which the programs are compiled. Without a registry it makes a
// stand-in, with the Go of this machine and the modules that the programs need, and removes it
// after the test. The stand-in has no shell.
func goImage(t *testing.T, image string) {
	t.Helper()
	if exec.Command("docker", "image", "inspect", image).Run() == nil ||
		exec.Command("docker", "pull", image).Run() == nil {
		return
	}
	dir := t.TempDir()
	modules := filepath.Join(dir, "modules")
	goTool := func(env []string, args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env, cmd.Stderr = "..", append(os.Environ(), env...), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	const nats = "github.com/nats-io/natscli/nats"
	goTool(nil, "mod", "download")
	goTool(nil, "-C", "tools", "list", "-deps", nats)
	fresh := []string{"GOMODCACHE=" + modules, "GOFLAGS=-modcacherw",
		"GOPROXY=file://" + filepath.ToSlash(goTool(nil, "env", "GOMODCACHE")) + "/cache/download", "GOSUMDB=off"}
	goTool(fresh, "mod", "download")
	goTool(fresh, "-C", "tools", "list", "-deps", nats)
	for from, to := range map[string]string{goTool(nil, "env", "GOROOT"): "go", filepath.Join(modules, "cache", "download"): "proxy"} {
		if out, err := exec.Command("cp", "-r", from, filepath.Join(dir, to)).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", from, err, out)
		}
	}
	const dockerfile = "FROM scratch\nCOPY go /usr/local/go\nCOPY proxy /proxy\nCOPY Dockerfile /tmp/\n" +
		"ENV PATH=/usr/local/go/bin GOPATH=/go GOCACHE=/cache GOPROXY=file:///proxy GOSUMDB=off GOTOOLCHAIN=local\n"
	for name, text := range map[string]string{"Dockerfile": dockerfile, ".dockerignore": "modules\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docker(t, "build", "-t", image, dir)
	t.Cleanup(func() { docker(t, "rmi", image) })
}
