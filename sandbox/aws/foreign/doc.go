// Package foreign lets programs of other people drive the emulated AWS: boto3 and the AWS CLI, each in the release that
// Debian has and in the one that is first on the path, where that is another. They know the names, forms and error codes of
// AWS from models of their own, so they see what the Go SDK, from whose types the emulator is made, cannot see.
//
// It has no code but its tests. The scripts are testdata/boto3/*.py and testdata/cli/*.sh, one per service; each
// can be run by hand against any endpoint:
//
//	EMULATED_AWS=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python3 testdata/boto3/elbv2.py
//
// Answers are compared name by name with the models of a recent boto3, and errors are caught by the classes that it makes
// of them. Clients that are not installed are skipped; install.sh, behind make clients, gets those of Debian.
//
// Package witness lets the same clients see each refusal that tests provoke with the Go SDK.
package foreign
