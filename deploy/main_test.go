//go:build docker

package deploy_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/example/pillion/web/webtest"
)

// answers checks the answers of the services: a wrong one fails the tests.
var answers *webtest.Checker

func TestMain(m *testing.M) {
	var err error
	if answers, err = webtest.NewChecker("../authsvc/openapi.yaml", "../usersvc/openapi.yaml",
		"../ridersvc/openapi.yaml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(answers.Run(m))
}
