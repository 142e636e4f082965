package dev.hyrex;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParseException;
import com.google.gson.Strictness;
import com.google.protobuf.ByteString;
import java.lang.reflect.Type;

/** JSON as the other languages read it: strict, nulls kept, nothing escaped for HTML. */
final class Json {
  static final Gson STRICT =
      new GsonBuilder().setStrictness(Strictness.STRICT).serializeNulls().disableHtmlEscaping().create();

  private Json() {}

  static <T> T decode(ByteString bytes, Type type) {
    if (bytes.isEmpty() || !bytes.isValidUtf8()) {
      throw new JsonParseException(bytes.isEmpty() ? "the payload is empty" : "the payload is not UTF-8");
    }
    return STRICT.fromJson(bytes.toStringUtf8(), type);
  }
}
