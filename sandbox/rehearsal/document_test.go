package rehearsal

import (
	"encoding"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const reportPage = "../../docs/demo-report.md"

// documentedRow is a line of a table of the page: the fields that it is about, and all names in it.
type documentedRow struct{ fields, names []string }

var codeSpan = regexp.MustCompile("`([^`]+)`")

func documentedRows(t *testing.T) []documentedRow {
	t.Helper()
	page, err := os.ReadFile(reportPage)
	if err != nil {
		t.Fatal(err)
	}
	var rows []documentedRow
	for line := range strings.Lines(string(page)) {
		if cells := strings.SplitN(line, "|", 3); len(cells) == 3 {
			if fields := codeSpans(cells[1]); len(fields) > 0 {
				rows = append(rows, documentedRow{fields: fields, names: codeSpans(line)})
			}
		}
	}
	return rows
}

func codeSpans(text string) []string {
	var spans []string
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		spans = append(spans, strings.TrimSuffix(m[1], "[]"))
	}
	return spans
}

// jsonFields are the paths of all fields of a type's JSON; those of lists and maps go by the name of the list.
func jsonFields(of reflect.Type, under string) []string {
	text := reflect.TypeFor[encoding.TextMarshaler]()
	switch {
	case of == reflect.TypeFor[time.Time]() || of.Implements(text):
		return nil
	case of.Kind() == reflect.Slice || of.Kind() == reflect.Map || of.Kind() == reflect.Pointer:
		return jsonFields(of.Elem(), under)
	case of.Kind() != reflect.Struct:
		return nil
	}
	var fields []string
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		path := strings.TrimPrefix(under+"."+name, ".")
		fields = append(fields, path)
		fields = append(fields, jsonFields(of.Field(i).Type, path)...)
	}
	return fields
}

// The page names each field: in its first column by its whole path, or by its name in the row of what it is part of.
func TestThePageNamesEveryFieldOfTheReport(t *testing.T) {
	t.Parallel()
	rows := documentedRows(t)
	fields := jsonFields(reflect.TypeFor[Report](), "")
	for _, path := range fields {
		at := strings.LastIndex(path, ".")
		named := slices.ContainsFunc(rows, func(row documentedRow) bool {
			return slices.Contains(row.fields, path) || at > 0 && slices.Contains(row.fields, path[:at]) && slices.Contains(row.names, path[at+1:])
		})
		partsNamed := slices.ContainsFunc(rows, func(row documentedRow) bool { return strings.HasPrefix(row.fields[0], path+".") })
		if !named && !partsNamed {
			t.Errorf("%s does not name the field %s", reportPage, path)
		}
	}
	for _, row := range rows {
		for _, field := range row.fields {
			if !slices.Contains(fields, field) {
				t.Errorf("%s describes %s, which the report does not have", reportPage, field)
			}
		}
	}
	if len(fields) < 80 {
		t.Errorf("only %d fields were found: the walk through the types is wrong", len(fields))
	}
}
