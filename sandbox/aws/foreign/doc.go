// Package foreign lets programs of other people drive the emulated AWS: boto3 and the AWS CLI, each in the release that
// Debian has and in the one that is first on the path, where that is another. They know the names, forms and error codes of
// AWS from models of their own, so they see what the Go SDK, from whose types the emulator is made, cannot see.
//
// It has no code but its tests. The scripts are testdata/boto3/*.py and testdata/cli/*.sh, one per service; each
// can be run by hand against any endpoint:
//
//	EMULATED_AWS=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python3 testdata/boto3/elbv2.py
//
// install.sh gets the Debian packages where they are missing.
package foreign
