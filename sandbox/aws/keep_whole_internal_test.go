package aws

import (
	"reflect"
	"slices"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// Inputs of fixtures are written as JSON, which cannot bring back what an interface held; neither can it for what services keep.
func TestEveryInputCanBeWrittenDown(t *testing.T) {
	t.Parallel()
	e, err := New(Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	seen := map[reflect.Type]bool{}
	var look func(path string, of reflect.Type)
	look = func(path string, of reflect.Type) {
		switch of.Kind() {
		case reflect.Interface, reflect.Func, reflect.Chan:
			t.Errorf("%s is a %s", path, of.Kind())
		case reflect.Pointer, reflect.Slice, reflect.Array:
			look(path, of.Elem())
		case reflect.Map:
			look(path+"[]", of.Elem())
		case reflect.Struct:
			if seen[of] || of.PkgPath() == "time" {
				return
			}
			seen[of] = true
			for field := range of.Fields() {
				if field.IsExported() {
					look(path+"."+field.Name, field.Type)
				}
			}
		}
	}
	for name, s := range e.services {
		for operation, o := range s.operations {
			if (&call{name: name, record: journal.Record{Operation: operation}}).changes() {
				look(name+":"+operation, reflect.TypeOf(o.NewInput()))
			}
		}
	}
}

// Whoever adds a service decides whether it is kept.
func TestEveryServiceIsKept(t *testing.T) {
	t.Parallel()
	e, err := New(Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	notKept := map[string]string{
		"monitoring": "metrics grow with time, and are of no use to who begins again",
		"s3":         "objects are files of their own in the folder",
	}
	for name := range e.services {
		kept := slices.ContainsFunc(e.states, func(s state) bool { return s.name == name })
		if kept == (notKept[name] != "") {
			t.Errorf("service %s is kept: %v, but: %q", name, kept, notKept[name])
		}
	}
}
