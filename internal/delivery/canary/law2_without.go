//go:build without_law2

package canary

const lawTwo = false
