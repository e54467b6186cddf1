package cloud

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// wholeRequests sends each request in one piece.
//
// The SDK's request bodies are readers that net/http does not know to be in memory, so it sends headers and
// body apart and then looks for more of the body. By then a near endpoint may have answered and the SDK
// closed the body, which net/http takes for a failed write: it breaks the connection, and an answer to a
// call that has succeeded is lost. With the body in memory there is one write, and nothing to look for.
type wholeRequests struct{ client aws.HTTPClient }

// Do implements aws.HTTPClient. Without net/http's GetBody a request whose idle connection turns out to be
// closed, before a byte of it was sent, would fail; with it net/http takes another connection. It never sends
// a POST of which something was sent a second time.
func (w wholeRequests) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return w.client.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the body of a request to %s: %w", r.URL.Host, err)
	}
	whole := r.WithContext(r.Context()) // the SDK closes the body of its own request
	whole.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	whole.Body, _ = whole.GetBody()
	return w.client.Do(whole)
}
