// Package alerts tests the alerts of deploy/prometheus and the dashboards of deploy/grafana: by
// themselves, against the metrics of a running system, and with a Prometheus that scrapes one.
//
// What needs promtool or Prometheus is run by `make check`, where Debian's package `prometheus` is
// installed.
package alerts

import (
	"os"
	"testing"

	"github.com/example/pillion/test/proctest"
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(m)) }
