// Makes and reads zTOCs by the library that AWS's soci and its snapshotter are made of.
//
//	soci-ztoc make LAYER TOOL > ZTOC
//	soci-ztoc read ZTOC LAYER
//
// make writes the zTOC of a layer in gzip as soci does, made by TOOL. read prints the SHA-256 of
// every regular file as JSON, by name, each fetched by its spans alone; and what the zTOC lists.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/awslabs/soci-snapshotter/ztoc"
)

func create(layer, tool string) error {
	made, err := ztoc.NewBuilder(tool).BuildZtoc(layer, 4<<20)
	if err != nil {
		return err
	}
	data, _, err := ztoc.Marshal(made)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, data)
	return err
}

func read(name, layer string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	blob, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	found, err := ztoc.Unmarshal(bytes.NewReader(data))
	if err != nil {
		return err
	}
	size := int64(found.CompressedArchiveSize)
	files := map[string]string{}
	for _, file := range found.FileMetadata {
		if file.Type != "reg" {
			continue
		}
		content, err := found.ExtractFile(io.NewSectionReader(blob, 0, size), file.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		files[file.Name] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	entries := found.FileMetadata
	// Printed by themselves.
	found.TOC, found.Checkpoints = ztoc.TOC{}, nil
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"files": files, "entries": entries, "ztoc": found,
	})
}

func main() {
	err := fmt.Errorf("soci-ztoc make LAYER TOOL | read ZTOC LAYER")
	if len(os.Args) == 4 && os.Args[1] == "make" {
		err = create(os.Args[2], os.Args[3])
	} else if len(os.Args) == 4 && os.Args[1] == "read" {
		err = read(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
