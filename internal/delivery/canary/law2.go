//go:build !without_law2

package canary

// lawTwo is true but in builds for the negative control (build tag without_law2), which neither wait for weights to
// settle nor for targets to drain: a rehearsal with such a controller must lose requests, or the test ground lies.
const lawTwo = true
