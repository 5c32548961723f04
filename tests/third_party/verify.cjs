// Verify bundles with sigstore-js, as anybody would: node verify.cjs PACKAGE ROOT IDENTITY ISSUER BUNDLE...
// PACKAGE is verify-current or verify-previous. Prints a line a bundle; exits 1 at the first refused.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const [name, rootPath, identity, issuer, ...bundles] = process.argv.slice(2);
const { Verifier, toSignedEntity, toTrustMaterial } = require(name);
// Each major has its own companions.
const beside = createRequire(require.resolve(name));
const { bundleFromJSON } = beside("@sigstore/bundle");
const { TrustedRoot } = beside("@sigstore/protobuf-specs");

const root = TrustedRoot.fromJSON(JSON.parse(readFileSync(rootPath, "utf8")));
const verifier = new Verifier(toTrustMaterial(root), {
  tlogThreshold: 1,
  ctlogThreshold: 1,
  timestampThreshold: 1,
});
for (const path of bundles) {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(path, "utf8")));
  const signer = verifier.verify(toSignedEntity(bundle), {
    subjectAlternativeName: identity,
    extensions: { issuer },
  });
  const payload = JSON.parse(bundle.content.dsseEnvelope.payload.toString());
  console.log(`${signer.identity.subjectAlternativeName} ${payload.predicateType}`);
}
