// Reads an image as podman and skopeo of today do, by the library that both are made of.
//
//	containers-image TRANSPORT:REFERENCE FOLDER
//
// copies the image into FOLDER, byte for byte, and prints the digests of its manifest, config and
// layers as JSON. TRANSPORT: oci, oci-archive, docker-archive, docker (without TLS) or dir.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	_ "go.podman.io/image/v5/docker"
	_ "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/manifest"
	_ "go.podman.io/image/v5/oci/archive"
	_ "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/transports"
	"go.podman.io/image/v5/types"
)

func read(from, to string) error {
	name, reference, _ := strings.Cut(from, ":")
	transport := transports.Get(name)
	if transport == nil {
		return fmt.Errorf("unknown transport %q", name)
	}
	source, err := transport.ParseReference(reference)
	if err != nil {
		return err
	}
	target, err := directory.NewReference(to)
	if err != nil {
		return err
	}
	anything := signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: anything})
	if err != nil {
		return err
	}
	system := &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}
	options := &copy.Options{SourceCtx: system}
	data, err := copy.Image(context.Background(), policy, target, source, options)
	if err != nil {
		return err
	}
	digest, err := manifest.Digest(data)
	if err != nil {
		return err
	}
	parsed, err := manifest.FromBlob(data, manifest.GuessMIMEType(data))
	if err != nil {
		return err
	}
	layers := []string{}
	for _, layer := range parsed.LayerInfos() {
		layers = append(layers, layer.Digest.String())
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"manifest": digest, "config": parsed.ConfigInfo().Digest, "layers": layers,
	})
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: containers-image TRANSPORT:REFERENCE FOLDER")
		os.Exit(2)
	}
	if err := read(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "containers-image:", err)
		os.Exit(1)
	}
}
