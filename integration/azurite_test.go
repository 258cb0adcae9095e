package integration

import (
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"github.com/rollout-sync/rollout/integration/internal/server"
	"github.com/rollout-sync/rollout/integration/tools"
	"github.com/rollout-sync/rollout/store/blob/azure"
)

// startAzurite has npm install Azurite, unless it is in the cache, and starts it with
// an account of its own.
func startAzurite(dir string) (*service, func(), error) {
	s := &service{name: "azurite", service: azure.Service()}
	installed, err := tools.NPM("azurite")
	if err != nil {
		s.absent = err
		return s, nil, nil
	}
	program := installed + "/node_modules/azurite/dist/src/blob/main.js"
	version, err := exec.Command("node", program, "--version").Output()
	if err != nil {
		s.absent = err
		return s, nil, nil
	}
	s.version = strings.TrimSpace(string(version))
	dir += "/azurite"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	addr, err := server.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	host, port, _ := strings.Cut(addr, ":")
	// It knows no version of the API that is as new as the SDK's.
	cmd := exec.Command("node", program, "--blobHost", host, "--blobPort", port, "--location", dir,
		"--silent", "--disableTelemetry", "--skipApiVersionCheck")
	secret := base64.StdEncoding.EncodeToString([]byte(secretKey))
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+accessKey+":"+secret)
	cmd.Dir = dir
	child, err := server.Start(cmd, addr)
	if err != nil {
		return nil, nil, err
	}
	s.proxy = newProxy(addr)
	s.url = func(bucket string) *url.URL {
		return &url.URL{Scheme: azure.Scheme, Host: bucket, RawQuery: url.Values{
			"protocol": {"http"},
			"domain":   {strings.TrimPrefix(s.proxy.URL, "http://")},
			"localemu": {"true"},
		}.Encode()}
	}
	s.env = map[string]string{"AZURE_STORAGE_ACCOUNT": accessKey, "AZURE_STORAGE_KEY": secret}
	s.wrong = map[string]string{"AZURE_STORAGE_KEY": wrongSecret}
	s.open = func(bucket string) (*gcblob.Bucket, error) {
		return azure.URLOpener{}.OpenBucketURL(ctx, s.url(bucket))
	}
	s.refused = func(bucket string) (*gcblob.Bucket, error) {
		key, err := container.NewSharedKeyCredential(accessKey, wrongSecret)
		if err != nil {
			return nil, err
		}
		client, err := container.NewClientWithSharedKeyCredential(s.proxy.URL+"/"+accessKey+"/"+bucket, key, nil)
		if err != nil {
			return nil, err
		}
		return azureblob.OpenBucket(ctx, client, nil)
	}
	s.create = func(bucket string) error {
		b, err := s.open(bucket)
		if err != nil {
			return err
		}
		defer b.Close()
		var client *container.Client
		b.As(&client)
		_, err = client.Create(ctx, nil)
		return err
	}
	return s, stopping(child), nil
}
