package envelope.spark;

import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;

/**
 * A key in a vault, as the configuration names it: {@code https://VAULT/keys/NAME[/VERSION]}.
 *
 * @param host the vault
 * @param cloud the suffix of vaults in its cloud, which says whose tokens it takes
 * @param name the key
 * @param version the only version that may be used; {@code null} for all
 */
record KeyUrl(String host, String cloud, String name, String version) {
  /** Followed by a host that is a vault under a private name, the suffix of its cloud. */
  static final String PRIVATE_HOST = "envelope.private-host.";

  private static final Pattern URL = Pattern.compile(
      "https://([a-z0-9][a-z0-9.-]{0,252})/keys/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32}))?/?");
  private static final Pattern SUFFIX = Pattern.compile(
      "(?:vault|managedhsm)\\.(?:azure\\.net|azure\\.cn|usgovcloudapi\\.net)");

  /** Checks the host as well: a token is sent to vaults of a known cloud only. */
  static KeyUrl parse(String text, Configuration configuration) {
    Matcher parts = URL.matcher(text);
    if (!parts.matches()) {
      throw new ParquetCryptoRuntimeException(
          "'" + text + "' is not a key's URL: https://VAULT/keys/NAME");
    }
    String host = parts.group(1);
    String cloud = configuration.getTrimmed(PRIVATE_HOST + host, host.substring(host.indexOf('.') + 1));
    if (!SUFFIX.matcher(cloud).matches()) {
      throw new ParquetCryptoRuntimeException(host + " is not the host name of a vault in a known"
          + " cloud: name a private one in " + PRIVATE_HOST + host);
    }
    return new KeyUrl(host, cloud, parts.group(2), parts.group(3));
  }

  /** The same key in the version that a wrapped key names. */
  KeyUrl at(String wanted) {
    if (version != null && !version.equals(wanted)) {
      throw new KeyAccessDeniedException("The file is under version " + wanted + " of " + name
          + ", and version " + version + " is configured");
    }
    return new KeyUrl(host, cloud, name, wanted);
  }

  String text() {
    return "https://" + host + "/keys/" + name + (version == null ? "" : "/" + version);
  }
}
