// What another implementation of the same interface makes of it: the published Go package.
//
//	peer version      the module's version
//	peer interface    every message, field, enum value and call, a line each
//	peer messages     every request and response, with every field set: its name and its bytes in hexadecimal
package main

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var file = (&cri.VersionRequest{}).ProtoReflect().Descriptor().ParentFile()

func main() {
	what := strings.Join(os.Args[1:], " ")
	switch what {
	case "version":
		fmt.Println(version())
	case "interface":
		described := protodesc.ToFileDescriptorProto(file)
		for _, enum := range described.GetEnumType() {
			values("."+described.GetPackage(), enum)
		}
		for _, message := range described.GetMessageType() {
			fields("."+described.GetPackage(), message)
		}
		for _, service := range described.GetService() {
			calls("."+described.GetPackage(), service)
		}
	case "messages":
		messages()
	default:
		fmt.Fprintf(os.Stderr, "usage: peer version | interface | messages, not %q\n", what)
		os.Exit(2)
	}
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "k8s.io/cri-api" {
			return module.Path + " " + module.Version
		}
	}
	panic("built without the module")
}

func values(scope string, enum *descriptorpb.EnumDescriptorProto) {
	for _, value := range enum.GetValue() {
		fmt.Printf("%s.%s %s = %d\n", scope, enum.GetName(), value.GetName(), value.GetNumber())
	}
}

func fields(scope string, message *descriptorpb.DescriptorProto) {
	scope += "." + message.GetName()
	fmt.Printf("%s: map entry %t, oneofs %d, reserved %d, extensions %d\n", scope, message.GetOptions().GetMapEntry(),
		len(message.GetOneofDecl()), len(message.GetReservedRange()), len(message.GetExtensionRange()))
	for _, field := range message.GetField() {
		options := field.GetOptions()
		fmt.Printf("%s %s = %d: %d %d %s, JSON %s, optional %t, deprecated %t, redacted %t\n", scope, field.GetName(),
			field.GetNumber(), field.GetLabel(), field.GetType(), field.GetTypeName(), field.GetJsonName(),
			field.GetProto3Optional(), options.GetDeprecated(), options.GetDebugRedact())
	}
	for _, enum := range message.GetEnumType() {
		values(scope, enum)
	}
	for _, nested := range message.GetNestedType() {
		fields(scope, nested)
	}
}

func calls(scope string, service *descriptorpb.ServiceDescriptorProto) {
	for _, call := range service.GetMethod() {
		fmt.Printf("%s.%s/%s: %s %t -> %s %t\n", scope, service.GetName(), call.GetName(), call.GetInputType(),
			call.GetClientStreaming(), call.GetOutputType(), call.GetServerStreaming())
	}
}

func messages() {
	for s := range file.Services().Len() {
		calls := file.Services().Get(s).Methods()
		for c := range calls.Len() {
			encoded(calls.Get(c).Input())
			encoded(calls.Get(c).Output())
		}
	}
}

func encoded(described protoreflect.MessageDescriptor) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(described.FullName())
	if err != nil {
		panic(err)
	}
	message := kind.New()
	fill(message)
	// Deterministic: maps in the order of their keys.
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(message.Interface())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %x\n", described.Name(), bytes)
}

// Sets every field, below it too.
func fill(message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	for f := range fields.Len() {
		field := fields.Get(f)
		switch {
		case field.IsMap():
			// No empty key: whether what is empty is written in an entry is the encoder's choice.
			entries := message.Mutable(field).Map()
			for _, key := range []string{"z", "a", "é"} {
				entries.Set(protoreflect.ValueOfString(key).MapKey(), value(field.MapValue(), entries.NewValue))
			}
		case field.IsList():
			list := message.Mutable(field).List()
			list.Append(value(field, list.NewElement))
			list.Append(value(field, list.NewElement))
		default:
			message.Set(field, value(field, func() protoreflect.Value { return message.NewField(field) }))
		}
	}
}

func value(field protoreflect.FieldDescriptor, empty func() protoreflect.Value) protoreflect.Value {
	number := int64(field.Number())
	switch field.Kind() {
	case protoreflect.MessageKind:
		inner := empty()
		fill(inner.Message())
		return inner
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(field.Name()) + " ünicode")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 0xff, byte(number)})
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(-number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(math.MinInt64 + number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(math.MaxUint32 - number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(math.MaxUint64 - uint64(number)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number) + 0.1)
	default:
		panic(fmt.Sprintf("%s: a kind that the interface did not use: %s", field.FullName(), field.Kind()))
	}
}
