package split

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func canarySplit() Split {
	return Split{Destinations: []Destination{{"canary", "80", 10}, {"stable", "80", 90}}}
}

// The published format: rollout controllers, their plugins and dashboards parse these very bytes.
func TestEncodeWritesThePublishedFormat(t *testing.T) {
	s := canarySplit()
	s.Stickiness = time.Hour
	got, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"canary","ServicePort":"80","Weight":10},{"ServiceName":"stable","ServicePort":"80","Weight":90}],"TargetGroupStickinessConfig":{"Enabled":true,"DurationSeconds":3600}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecodeReadsWhatPeopleWrite(t *testing.T) {
	for name, annotation := range map[string]string{
		"lower camel case": `{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"canary","servicePort":"80","weight":10},{"serviceName":"stable","servicePort":"80","weight":90}]}}`,
		"numeric ports":    `{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"canary","servicePort":80,"weight":10},{"serviceName":"stable","servicePort":80,"weight":90}],"targetGroupStickinessConfig":{"enabled":false}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(annotation)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(canarySplit(), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeNamesTheWrongField(t *testing.T) {
	for annotation, wanted := range map[string]string{
		`{`:                   "not valid JSON",
		`{"type":"redirect"}`: `type is "redirect"`,
		`{"type":"forward"}`:  "forwardConfig is missing",
		`{"type":"forward","forwardConfig":{"targetGroups":[]}}`:                                                                                                            "at least one target group",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":1},{"serviceName":"b","servicePort":1,"weight":1}]}}`:                          "targetGroups[0] (a): weight is required",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":1,"weight":1000}]}}`:                                                           "weight 1000 is outside",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":true}]}}`:                                                                      "servicePort true",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"","servicePort":1}]}}`:                                                                          "serviceName is empty",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"targetGroupARN":"arn"}]}}`:                                                                                    "names a target group of AWS",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":1}],"targetGroupStickinessConfig":{"enabled":true}}}`:                          "durationSeconds is required",
		`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":1}],"targetGroupStickinessConfig":{"enabled":true,"durationSeconds":604801}}}`: "outside 1 to 604800",
	} {
		if _, err := Decode(annotation); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("Decode(%s): %v, want an error with %q", annotation, err, wanted)
		}
	}
}

func TestEncodeThenDecodeGivesTheSameSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Split
		services := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9-]{0,20}`), 1, MaxDestinations, rapid.ID).Draw(t, "services")
		for _, service := range services {
			s.Destinations = append(s.Destinations, Destination{service, rapid.StringMatching(`[0-9]{1,4}|http`).Draw(t, "port"), rapid.Int32Range(0, MaxWeight).Draw(t, "weight")})
		}
		s.Stickiness = time.Duration(rapid.Int64Range(0, 604800).Draw(t, "sticky")) * time.Second
		annotation, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(annotation)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(s) {
			t.Fatal(cmp.Diff(s, got))
		}
	})
}

// What is read without encoding/json is read as encoding/json reads it, and that is all that Encode writes for
// Services; one changed byte anywhere changes nothing about that.
func TestPublishedAgreesWithJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := canarySplit()
		s.Destinations[0].Weight = rapid.Int32Range(0, MaxWeight).Draw(t, "weight")
		s.Stickiness = time.Duration(rapid.Int64Range(0, 604800).Draw(t, "sticky")) * time.Second
		annotation, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := published(annotation); !ok {
			t.Fatalf("%s is not read the short way", annotation)
		}
		at := rapid.IntRange(0, len(annotation)-1).Draw(t, "at")
		changed := annotation[:at] + rapid.SampledFrom([]string{"", "0", "9", ",", "\"", "\\", " ", "}", "x", "é"}).Draw(t, "byte") + annotation[at+rapid.IntRange(0, 1).Draw(t, "instead"):]
		got, ok := published(changed)
		want, err := decode(changed)
		if ok && (err != nil || cmp.Diff(want, got) != "") {
			t.Fatalf("%s: %+v, encoding/json reads %+v, %v", changed, got, want, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":80,"weight":1}]}}`, `{"Type":"fixed-response"}`, `[]`, `{"forwardConfig":{"targetGroups":[null]}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, annotation string) {
		s, err := Decode(annotation)
		if slow, slowErr := decode(annotation); cmp.Diff(slow, s) != "" || (err == nil) != (slowErr == nil) {
			t.Fatalf("%q decodes to %+v, %v, and by encoding/json to %+v, %v", annotation, s, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		again, err := Encode(s)
		if err != nil {
			t.Fatalf("a decoded split does not encode: %v", err)
		}
		if back, err := Decode(again); err != nil || !back.Equal(s) {
			t.Fatalf("%q decodes to %+v, then to %+v (%v)", annotation, s, back, err)
		}
	})
}
