package codec

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadThreadNames(t *testing.T) {
	t.Parallel()
	in := `{"id":"a","thread_name":"first","updated_at":"2026-11-20T08:51:38.085376129Z"}
{"id":"b","thread_name":"b","updated_at":"2026-11-20T08:51:38Z"}
{"id":"a","thread_name":"zweiter «name»","updated_at":"2026-11-20T08:51:37Z"}
not json

{"id":"c"}
{"thread_name":"nobody's","updated_at":"2026-11-20T08:51:38Z"}
{"id":"b","thread_name":"","updated_at":"2026-11-20T08:51:39Z"}
{"id":"d","thread_name":"d","updated_at":"yesterday"}
{"id":"e","thread_name":"e","updated_at":"2026-11-20T09:51:38+01:00"}
{"id":"a","thread_na`
	got, err := ReadThreadNames(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range got {
		n.UpdatedAt = n.UpdatedAt.UTC()
		got[id] = n
	}
	want := map[string]ThreadName{
		"a": {"a", "zweiter «name»", at("2026-11-20T08:51:37Z").UTC()},
		"d": {"d", "d", time.Time{}},
		"e": {"e", "e", at("2026-11-20T08:51:38Z").UTC()},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	broken := errors.New("broken")
	if _, err := ReadThreadNames(iotest.ErrReader(broken)); err != broken {
		t.Errorf("error %v", err)
	}
}

func TestAppendThreadName(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 60*60)
	n := ThreadName{ID: idV7, Name: "A näme <中>\n", UpdatedAt: time.Date(2026, 11, 20, 9, 51, 38, 85376129, zone)}
	got, err := AppendThreadName(nil, n)
	want := `{"id":"` + idV7 + `","thread_name":"A näme <中>\n","updated_at":"2026-11-20T08:51:38.085376129Z"}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got, err := AppendThreadName([]byte("x"), ThreadName{Name: "a"}); err == nil || string(got) != "x" {
		t.Errorf("without an id: %q, %v", got, err)
	}
}
