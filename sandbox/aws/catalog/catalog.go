// Package catalog knows the names of all operations that the services have at AWS, modelled here or not: whoever asks
// for one that is not modelled is to be told so, and not that there is no such operation.
//
// The list is that of the SDK's clients; the test says when it is out of date, and with -update writes it.
package catalog

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

// Each line is a service, by the name that requests are signed for, a colon, and its operations in order.
//
//go:embed operations.txt
var list string

var operations = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(list) {
		service, names, _ := strings.Cut(line, ":")
		all[service] = strings.Fields(names)
	}
	return all
})

// Has says whether a service, by the name that requests are signed for, has an operation at AWS.
func Has(service, operation string) bool {
	_, found := slices.BinarySearch(operations()[service], operation)
	return found
}

// Operations lists the operations of a service at AWS, in order.
func Operations(service string) []string { return slices.Clone(operations()[service]) }
